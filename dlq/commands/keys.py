"""The command that lists blocked keys: ``dlq keys``."""

import time
from pathlib import Path
from typing import Any

import click

from unlost.dlq.commands.masking import redactor_of
from unlost.dlq.commands.options import LetterSettings, json_option, unmasked_option
from unlost.dlq.commands.render import say_json
from unlost.dlq.commands.store import opened, run
from unlost.dlq.record.query import Selection
from unlost.ops.kit.command import UsageProblem, command, say
from unlost.ops.kit.telemetry.counted import counted
from unlost.ops.kit.telemetry.redact import MASK, Redactor

_STOPS = {
    True: "; its policy is to stop reading",
    False: "",
    None: "; it is older than policies of routes: it stops reading with ORDER_AFTER_LETTER=stop",
}
"""What is said of a key by whether a letter of it stops reading."""


@command(
    LetterSettings,
    examples=("dlq keys", "dlq keys --limit 0 --json", "dlq replay --id order-4711"),
    params=[
        json_option(), unmasked_option(),
        click.Option(["--limit"], type=click.IntRange(min=0), default=50, show_default=True,
                     help="Show only the longest blocked; 0 shows all."),
    ],
)  # fmt: skip
def keys(settings: LetterSettings, *, as_json: bool, limit: int, unmasked: bool) -> int:
    """List the keys that a letter blocks (ORDER_BY), the longest blocked first. With REDACT, they are masked."""
    nowhere: tuple[Path, ...] = ()

    async def work() -> int:
        async with opened(settings, nowhere) as store:
            if not (find := getattr(store, "keys", None)):
                raise UsageProblem("PostgreSQL keeps which keys are blocked: set DATABASE_URL")
            shows = await redactor_of(settings, nowhere, store, Selection(), unmasked="dlq keys" if unmasked else "")
            found = shown(await find(limit or 2**31 - 1), shows)
        if as_json:
            say_json(found)
            return 0
        for one in found:
            age, behind = max(0.0, time.time() - one["since"]), one["letters"] - 1
            first = f"{one['reason'] or 'not listed yet'} {one['error_type'] or ''}".strip()
            stops = _STOPS[one["stops"]]
            say(f"{one['order_key']}: for {age:,.0f} s, by {one['event_id']} ({first}), {behind:,} behind it{stops}")
        say(f"{counted(len(found), 'blocked key')}" if found else "no key is blocked")
        return 0

    return run(work)


def shown(found: list[dict[str, Any]], redactor: Redactor) -> list[dict[str, Any]]:
    """Mask all keys if any field is masked: which field a key came from is known to listeners alone."""
    return [{**one, "order_key": MASK} for one in found] if redactor.masks else found
