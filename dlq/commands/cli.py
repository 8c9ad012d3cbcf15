"""The command ``dlq``: look at dead letters, run them again, archive them, compact their files."""

import click

from unlost.dlq.commands.changing import archive, compact, restore
from unlost.dlq.commands.reading import export, list_letters, show, show_groups, stats, verify
from unlost.dlq.commands.replay import ReplaySettings, replay_command
from unlost.dlq.replay.outcome import Rerun
from unlost.ops.kit.command import main_group


def _open_rerun(settings: ReplaySettings) -> Rerun:
    """The engine of a listener. Imported only when letters are run."""
    from unlost.listener.app.replay_engine import open_rerun

    return open_rerun(settings)


main: click.Group = main_group(
    "dlq",
    [list_letters, show, show_groups, stats, replay_command(_open_rerun), archive, restore, export, compact, verify],
    help="Look at dead letters, and run them again.",
    examples=[
        "dlq groups failed_events.jsonl",
        "dlq show order-4711 failed_events.jsonl",
        "dlq replay failed_events.jsonl --dry-run",
        "dlq replay failed_events.jsonl --reason exhausted --canary 5",
        "dlq list failed_events.jsonl --json | jq '.[].event_id'",
    ],
)
