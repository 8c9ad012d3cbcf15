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

HISTORY_LOST = 1
"""Unlike 2, an exit code with which a supervisor starts the producer again."""


def run_producer(settings: ProducerSettings) -> int:
    """Return the exit code. Raises ``UsageProblem``."""
    configure_logs(settings.log_level, settings.instance_id)
    sys.setswitchinterval(TURN_SECONDS)

    code = 0
    try:
        run_daemon(lambda: ProducerDaemon(settings))
    except* Moved as group:  # starting again would not help
        raise UsageProblem(*(str(error) for error in group.exceptions)) from None
    except* HistoryLost as group:
        structlog.get_logger().error("journal_history_lost", why=str(group.exceptions[0]))
        code = HISTORY_LOST
    except* (PortTaken, JournalError, Misconfigured) as group:
        raise UsageProblem(*(str(error) for error in group.exceptions)) from None
    return code
