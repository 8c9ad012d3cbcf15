"""``replay --shadow``: report what today's handler would do with each letter, and change nothing."""

import asyncio
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from unlost.dlq.commands.render import say_json, warn_of
from unlost.dlq.commands.store import StoreSettings, opened
from unlost.dlq.record.query import Selection
from unlost.dlq.record.redacted import redacted_about
from unlost.dlq.replay.shadow import OUTCOMES, ShadowReport, ShadowResult, ShadowRun, run_shadow
from unlost.dlq.store.entries import LetterEntry
from unlost.listener.core.errors import Misconfigured, Permanent, Transient
from unlost.ops.kit.command import UsageProblem, say, say_json_text
from unlost.ops.kit.telemetry.printable import printable
from unlost.ops.kit.telemetry.redact import Redactor

SHOWN = 50
"""So many letters that would not succeed are shown to people, and as many others."""
FINE = ("succeeds", "stored_already")
WORDS = {
    "succeeds": "would succeed", "fails_the_same": "would fail the same", "fails_otherwise": "would fail otherwise",
    "stored_already": "stored already", "conflicts": "conflicts with a row", "cannot_be_tried": "cannot be tried",
}  # fmt: skip


def shadow(
    settings: StoreSettings, files: Sequence[Path], selection: Selection, limit: int, redactor: Redactor,
    open_shadow: Callable[[], ShadowRun], *, as_json: bool, follow: bool,
) -> int:  # fmt: skip
    """Run the shadow replay, and report it."""
    report = ShadowReport()

    def each(entry: LetterEntry, result: ShadowResult) -> ShadowResult:
        message = redacted_about(result.message, entry.letter, redactor, entry.edited)
        masked = msgspec.structs.replace(result, message=message)
        if follow:
            say_json_text(msgspec.json.encode({"letter": masked}).decode())
            sys.stdout.flush()
        return masked

    async def work() -> None:
        async with opened(settings, files) as store:
            try:
                async with open_shadow() as run:
                    await run_shadow(run, store, selection, limit, report, each)
            except (Transient, Permanent) as error:
                report.error = str(error)
            warn_of(store.damages)

    try:
        asyncio.run(work())
    except Misconfigured as error:
        raise UsageProblem(*error.mistakes) from None
    if follow:
        say_json_text(msgspec.json.encode(_values(report)).decode())
    elif as_json:
        say_json(_values(report) | {"results": report.results})
    else:
        _print(report)
    return report.exit_code()


def _values(report: ShadowReport) -> dict[str, Any]:
    names = "inserted", "updated", "deleted"
    outcomes: dict[str, Any] = {name: report.outcomes[name] for name in OUTCOMES}
    return outcomes | {
        "letters": report.letters,
        "wrote": {table: dict(zip(names, sums, strict=True)) for table, sums in report.wrote.items()},
        "error": report.error,
        "exit_code": report.exit_code(),
    }


def _print(report: ShadowReport) -> None:
    """Print a line for each letter, those that would not succeed first, and the sums."""
    for found in (
        [one for one in report.results if one.outcome not in FINE],
        [one for one in report.results if one.outcome in FINE],
    ):
        for one in found[:SHOWN]:
            say(f"letter {one.letter_id}, event {printable(one.event_id or '-')} {_said(one)}")
        if len(found) > SHOWN:
            like_these = "would succeed, or are stored already" if found[0].outcome in FINE else "would not succeed"
            say(f"and {len(found) - SHOWN:,} more that {like_these}; --follow names all")
    for name in OUTCOMES:
        if report.outcomes[name]:
            say(f"{WORDS[name]:<22} {report.outcomes[name]:,}")
    for table, (inserted, updated, deleted) in sorted(report.wrote.items()):
        say(f"would write            {table}: {inserted:,} inserted, {updated:,} updated, {deleted:,} deleted")
    if report.error:
        say(f"error: {report.error}", err=True)
    say("nothing was stored", err=True)


def _said(one: ShadowResult) -> str:
    why = f": {one.error_type}: {one.message}" if one.error_type else f": {one.message}" if one.message else ""
    wrote = "; ".join(f"{table}: {_rows(*counts)}" for table, counts in sorted(one.wrote.items()))
    would = f", and write {wrote}" if wrote and one.outcome == "succeeds" else ""
    return f"{WORDS[one.outcome]}{printable(why)}{printable(would)}"


def _rows(inserted: int, updated: int, deleted: int) -> str:
    named = (inserted, "inserted"), (updated, "updated"), (deleted, "deleted")
    return ", ".join(f"{count:,} {name}" for count, name in named if count)
