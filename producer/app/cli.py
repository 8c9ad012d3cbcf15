"""The command ``unlost producer``."""

import sys

import structlog

from unlost.listener.core.errors import Misconfigured
from unlost.ops.kit.command import UsageProblem, command, run_daemon
from unlost.ops.kit.telemetry.http import PortTaken
from unlost.ops.kit.telemetry.logs import configure_logs
from unlost.producer.app.daemon import Daemon
from unlost.producer.app.settings import ProducerSettings
from unlost.producer.journal.port import HistoryLost, JournalError

TURN_SECONDS = 0.00005
"""How long a computing thread may keep the interpreter while another waits. A commit needs about ten turns. With
Python's default of 5 ms per turn, no commit would progress while a batch is read."""

HISTORY_LOST = 1
"""Unlike 2, an exit code with which a supervisor starts the producer again."""


@command(
    ProducerSettings,
    name="producer",
    examples=(
        "unlost producer --journal /var/lib/unlost/journal.sqlite3",
        "unlost producer --port 3005 --ws-port 8080",
        'curl -d \'{"event_id":"order-1","payload":{"total":12}}\' http://127.0.0.1:3005/publish',
    ),
)
def main(settings: ProducerSettings) -> int:
    """Accept events over HTTP into a durable journal, and stream them over WebSocket."""
    configure_logs(settings.log_level, settings.instance_id)
    sys.setswitchinterval(TURN_SECONDS)

    code = 0
    try:
        run_daemon(lambda: Daemon(settings))
    except* HistoryLost as group:
        structlog.get_logger().error("journal_history_lost", why=str(group.exceptions[0]))
        code = HISTORY_LOST
    except* (PortTaken, JournalError, Misconfigured) as group:
        raise UsageProblem(*(str(error) for error in group.exceptions)) from None
    return code
