"""Runs a producer until it ends, and turns the errors that end it into exit codes and sentences."""

import sys

import structlog

from unlost.listener.core.errors import Misconfigured
from unlost.ops.kit.command import UsageProblem
from unlost.ops.kit.command.daemon import run_daemon
from unlost.ops.kit.telemetry.http import PortTaken
from unlost.ops.kit.telemetry.logs import configure_logs
from unlost.producer.app.daemon import ProducerDaemon
from unlost.producer.app.settings import ProducerSettings
from unlost.producer.journal.moves import Moved
from unlost.producer.journal.port import HistoryLost, JournalError

TURN_SECONDS = 0.00005
"""How long a computing thread may keep the interpreter while another waits. A commit needs about ten turns. With
Python's default of 5 ms per turn, no commit would progress while a batch is read."""

EXPECTED = (Moved, HistoryLost, PortTaken, JournalError, Misconfigured)
HISTORY_LOST = 1
"""Unlike 2, an exit code with which a supervisor starts the producer again."""


def run_producer(settings: ProducerSettings) -> int:
    """Return the exit code. Raises ``UsageProblem``."""
    configure_logs(settings.log_level, settings.instance_id)
    sys.setswitchinterval(TURN_SECONDS)

    try:
        run_daemon(lambda: ProducerDaemon(settings))
    except (*EXPECTED, ExceptionGroup) as error:
        errors = _each(error)
        if not all(isinstance(one, EXPECTED) for one in errors):
            raise
        if moved := [one for one in errors if isinstance(one, Moved)]:  # starting again would not help
            raise UsageProblem(*map(str, moved)) from None
        if refused := [one for one in errors if not isinstance(one, HistoryLost)]:
            raise UsageProblem(*map(str, refused)) from None
        structlog.get_logger().error("journal_history_lost", why=str(errors[0]))
        return HISTORY_LOST
    return 0


def _each(error: Exception) -> list[Exception]:
    """Return the errors of a group."""
    # Not by except*: up to Python 3.11.3, what it raises arrives in another group.
    return [one for inner in error.exceptions for one in _each(inner)] if isinstance(error, ExceptionGroup) else [error]
