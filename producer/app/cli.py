"""The command ``unlost producer``. The producer is imported only to run it: help and settings need nothing of it."""

from unlost.ops.kit.command import command
from unlost.producer.app.settings import ProducerSettings


@command(
    ProducerSettings,
    name="producer",
    examples=(
        "unlost producer --journal /var/lib/unlost/journal.sqlite3",
        "unlost producer --port 3005 --ws-port 8080",
        'curl -d \'{"event_id":"order-1","payload":{"total":12}}\' http://127.0.0.1:3005/publish',
    ),
    daemon=True,
)
def main(settings: ProducerSettings) -> int:
    """Accept events over HTTP into a durable journal, and stream them over WebSocket."""
    from unlost.producer.app.running import run_producer

    return run_producer(settings)
