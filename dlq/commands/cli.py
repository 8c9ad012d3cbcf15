"""The command ``dlq``: look at dead letters, edit and run them again, archive them, compact their files."""

import os

import click

from unlost.dlq.commands.changing import archive, assign, compact, note, quarantine, restore
from unlost.dlq.commands.editing import edit_letter, transform
from unlost.dlq.commands.keys import keys
from unlost.dlq.commands.moving import export, import_letters, retention
from unlost.dlq.commands.reading import list_letters, show, show_groups, stats, verify
from unlost.dlq.commands.replay import ReplaySettings, replay_command
from unlost.dlq.replay.outcome import Rerun
from unlost.dlq.replay.shadow import ShadowRun
from unlost.ops.kit.access.settings import ClientSettings
from unlost.ops.kit.command import main_group, secret_names

SECRETS_OF_OTHERS = secret_names(ClientSettings)
"""Environment variables with secrets that operators' commands need, and that no handler must see."""


def _open_rerun(settings: ReplaySettings) -> Rerun:
    """The engine of a listener. Imported only when letters are run. It runs the user's code."""
    for name in [one for one in os.environ if one.upper() in SECRETS_OF_OTHERS]:
        del os.environ[name]
    from unlost.listener.app.replay_engine import open_rerun

    return open_rerun(settings)


def _open_shadow(settings: ReplaySettings) -> ShadowRun:
    """Today's handler, for a shadow replay."""
    from unlost.listener.app.shadow_engine import open_shadow

    return open_shadow(settings)


main: click.Group = main_group(
    "dlq",
    [
        list_letters,
        show,
        show_groups,
        keys,
        stats,
        replay_command(_open_rerun, _open_shadow),
        edit_letter,
        transform,
        archive,
        restore,
        quarantine,
        note,
        assign,
        export,
        import_letters,
        retention,
        compact,
        verify,
    ],
    help="Look at dead letters, and run them again.",
    examples=[
        "dlq groups failed_events.jsonl",
        "dlq show order-4711 failed_events.jsonl",
        "dlq replay failed_events.jsonl --dry-run",
        "dlq replay failed_events.jsonl --reason exhausted --canary 5",
        "dlq list failed_events.jsonl --json | jq '.[].event_id'",
    ],
)
