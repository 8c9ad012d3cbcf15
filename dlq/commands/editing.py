"""The commands that make new versions of events: ``edit`` for one letter, ``transform`` for many.

Both are dry runs that show differences, unless ``--yes`` is given.
"""

import difflib
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import click
import msgspec

from unlost.dlq.commands.masking import redactor_of
from unlost.dlq.commands.options import (
    LetterSettings,
    files_argument,
    filter_options,
    json_option,
    selection_of,
    unmasked_option,
)
from unlost.dlq.commands.render import say_json, warn_of
from unlost.dlq.commands.store import opened, run
from unlost.dlq.commands.trail import about, noted
from unlost.dlq.edit.change import EventChange, FunctionChange, PatchChange
from unlost.dlq.edit.editing import EditReport, edit, rehearse
from unlost.dlq.edit.versions import Proposal
from unlost.dlq.record.json_patch import BadPatch
from unlost.dlq.record.query import Selection
from unlost.dlq.record.trail import Act, whoami
from unlost.dlq.replay.plan import LOCKED, RESOLVED, SOME_FAILED
from unlost.dlq.store.files import about_us
from unlost.dlq.store.port import LetterStore
from unlost.listener.core.errors import Misconfigured
from unlost.ops.kit.command import UsageProblem, command, say
from unlost.ops.kit.telemetry.counted import counted
from unlost.ops.kit.telemetry.printable import printable
from unlost.ops.kit.telemetry.redact import Redactor, content_of

SHOWN = 3
MOST_LINES = 200
"""So many letters, and lines of each difference, are shown to people."""


Check = Callable[[LetterStore, Selection], Awaitable[None]]
"""Raises ``UsageProblem`` if a command may not edit these letters."""


def _params() -> list[click.Parameter]:
    return [
        click.Option(["--patch"], help="A JSON Patch (RFC 6902) of the event: JSON, or a file with it."),
        click.Option(["--with", "function"], metavar="MODULE:FUNCTION",
                     help="A function that takes (payload) or (event) and returns a new one."),
        click.Option(["--why"], default="", help="The reason, kept with the new version."),
        click.Option(["--yes"], is_flag=True, help="Make the versions. Without it, only show what would change."),
        json_option(), unmasked_option(),
    ]  # fmt: skip


@command(
    LetterSettings,
    name="edit",
    examples=(
        """dlq edit order-4711 --patch '[{"op": "replace", "path": "/payload/qty", "value": 2}]'""",
        "dlq edit 3f9c01ab a.jsonl --patch fix.json --why 'typing error' --yes",
    ),
    params=[click.Argument(["wanted"], metavar="LETTER"), files_argument(), *_params()],
)
def edit_letter(settings: LetterSettings, *, wanted: str, files: tuple[Path, ...], **values: Any) -> int:
    """Make a new version of a letter's event. The original is kept, and replays take the newest version.

    LETTER is the id of its event, or the letter's own: whole, or its last 8 characters. The event keeps its id.
    Without --yes, only the difference is shown. The same edit twice makes one version.
    """

    async def one_alone(store: LetterStore, selection: Selection) -> None:
        count = (await store.latest(selection, 0)).count
        if not count:
            raise UsageProblem(f"no letter in {store.where} has the id {wanted!r}; dlq list shows them")
        if count > 1:
            raise UsageProblem(f"{counted(count, 'letter')} have the id {wanted!r}; give the letter's own, whole")

    return _edit(settings, files, Selection(ids=(wanted,)), one_alone, **values)


@command(
    LetterSettings,
    examples=(
        "dlq transform --with shop:upgrade --fingerprint 3f9c01ab",
        "dlq transform --with shop:upgrade --fingerprint 3f9c01ab --why 'version 2' --yes",
        "dlq transform a.jsonl --patch fix.json --type order.created --yes",
    ),
    params=[
        files_argument(), *filter_options(), *_params(),
        click.Option(["--all", "everything"], is_flag=True, help="Change every letter, if no filter is given."),
    ],
)  # fmt: skip
def transform(settings: LetterSettings, *, files: tuple[Path, ...], everything: bool, **values: Any) -> int:
    """Make a new version of the event of each selected letter, by a function or a patch.

    A function that names its parameter `event` gets the whole event, any other gets the payload. It returns the new
    value, or None to leave the letter alone. Run it again after an interruption: no second version is made.
    """
    own = {name: values.pop(name) for name in ("patch", "function", "why", "yes", "as_json", "unmasked")}
    selection = selection_of(values)
    if selection.everything and not everything:
        raise UsageProblem("say which letters are meant, by --fingerprint or another filter, or give --all")

    async def any_number(store: LetterStore, selection: Selection) -> None:
        del store, selection

    return _edit(settings, files, selection, any_number, **own)


def _edit(
    settings: LetterSettings, files: tuple[Path, ...], selection: Selection, check: Check, *,
    patch: str | None, function: str | None, why: str, yes: bool, as_json: bool, unmasked: bool,
) -> int:  # fmt: skip
    change = _change_of(patch, function)

    async def work() -> int:
        async with opened(settings, files) as store:
            await check(store, selection)
            if yes:
                report = await edit(store, selection, change, by=whoami(), why=why, about=about_us())
                result = f"{change.how}: {counted(report.changed, 'version')}"
                act = Act(whoami(), "dlq", "edited", about(selection, store.where), why, result)
                await noted(settings, files, act)
            else:
                report = await rehearse(store, selection, change)
            redactor = await redactor_of(settings, files, store, selection, unmasked="dlq edit" if unmasked else "")
            warn_of(store.damages)
        if redactor.masks:
            _mask(report, redactor)
        if as_json:
            say_json(report_values(report, dry_run=not yes))
        else:
            _print(report, yes=yes)
        return SOME_FAILED if report.refused or report.unreadable else LOCKED if report.elsewhere else RESOLVED

    return run(work)


def _change_of(patch: str | None, function: str | None) -> EventChange:
    if (patch is None) == (function is None):
        raise UsageProblem("say how to edit: by --patch or by --with")
    try:
        if patch is not None:
            return PatchChange(_patch_text(patch))
        from unlost.listener.routing.finding import imported

        assert function is not None
        return FunctionChange(function, imported(function, "--with"))
    except BadPatch as error:
        raise UsageProblem(f"--patch: {error}") from None
    except Misconfigured as error:
        raise UsageProblem(*error.mistakes) from None


def _patch_text(patch: str) -> bytes:
    if patch.lstrip().startswith("["):
        return patch.encode()
    try:
        return Path(patch).read_bytes()
    except OSError as error:
        raise UsageProblem(f"--patch: {patch} is neither a JSON array nor a file that can be read: {error}") from None


def _mask(report: EditReport, redactor: Redactor) -> None:
    """Mask the versions that are shown, and withhold reasons: they may quote what a function was given."""
    for place, one in enumerate(report.proposals):
        event = redactor.content(content_of(one.edit.event))
        masked = msgspec.structs.replace(one.edit, event=event)
        report.proposals[place] = one._replace(before=redactor.content(content_of(one.before)), edit=masked)
    report.refusals = [(letter_id, redactor.unknown(why)) for letter_id, why in report.refusals]


def report_values(report: EditReport, *, dry_run: bool) -> dict[str, Any]:
    """A report as plain values."""
    return {
        "dry_run": dry_run, "changed": report.changed, "unchanged": report.unchanged, "refused": report.refused,
        "left_to_another": report.elsewhere, "unreadable": report.unreadable,
        "letters": [
            {
                "letter_id": one.entry.letter.letter_id, "event_id": one.entry.letter.event_id,
                "version": one.edit.version, "base": one.edit.base, "how": one.edit.how,
                "before": _text(one.before), "after": _text(one.edit.event),
            }
            for one in report.proposals
        ],
        "refusals": [{"letter_id": letter_id, "why": why} for letter_id, why in report.refusals],
    }  # fmt: skip


def _print(report: EditReport, *, yes: bool) -> None:
    for one in report.proposals[:SHOWN]:
        letter = one.entry.letter
        say(f"letter {letter.letter_id}, event {printable(letter.event_id or '-')}")
        for line in difference(one):
            say(f"  {printable(line)}")
    if report.changed > SHOWN:
        say(f"and {report.changed - SHOWN:,} more")
    for letter_id, why in report.refusals[:SHOWN]:
        say(f"letter {letter_id} cannot be edited so: {printable(why)}")
    made = f"made {counted(report.changed, 'version')}" if yes else f"would make {counted(report.changed, 'version')}"
    others = [
        f"{count:,} {words}"
        for count, words in (
            (report.unchanged, "unchanged"), (report.refused, "refused"), (report.unreadable, "unreadable"),
            (report.elsewhere, "left to a replay or edit that holds them"),
        )
        if count
    ]  # fmt: skip
    say("; ".join([made, *others]))
    if report.changed and not yes:
        say("nothing was changed; --yes makes the versions", err=True)


def difference(one: Proposal) -> Iterator[str]:
    """The difference between two versions, a line at a time, as ``diff -u`` shows it."""
    names = f"version {one.edit.version - 1}", f"version {one.edit.version} ({one.edit.how})"
    lines = list(difflib.unified_diff(_lines(one.before), _lines(one.edit.event), *names, lineterm=""))
    yield from lines[:MOST_LINES]
    if len(lines) > MOST_LINES:
        yield f"… and {len(lines) - MOST_LINES:,} more lines"


def _lines(event: bytes) -> list[str]:
    try:
        return msgspec.json.format(event, indent=2).decode().splitlines()
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return [_text(event)]


def _text(event: bytes) -> str:
    return event.decode(errors="backslashreplace")
