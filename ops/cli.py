"""``ops``: run the whole system here, and account for every event."""

from ops.audit.cli import audit, event
from ops.bench.cli import bench
from ops.command import main_group
from ops.console.cli import console
from ops.drills.cli import drill
from ops.journal import journal
from ops.local.up import up
from ops.migrate import migrate_command
from ops.retention import retention
from ops.watch.top import top

main = main_group(
    "ops",
    [up, console, top, audit, event, migrate_command, retention, journal, bench, drill],
    help="Run Unlost on this machine, and account for every event.",
    examples=[
        "ops up",
        "ops up --check",
        "ops top",
        "ops audit .unlost/*/failed_events.jsonl",
        "ops event order-4711",
        "ops migrate",
        "ops drill --list",
    ],
)
