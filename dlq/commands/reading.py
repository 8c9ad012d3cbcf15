"""The commands that only read: list, show, groups, stats, verify."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import msgspec

from unlost.dlq.commands.masking import redactor_of
from unlost.dlq.commands.options import (
    LetterSettings,
    as_usage,
    files_argument,
    files_of,
    filter_options,
    json_option,
    selection_of,
    unmasked_option,
)  # fmt: skip
from unlost.dlq.commands.render import (
    history_values,
    print_entries,
    print_entry,
    print_groups,
    print_statistics,
    print_table,
    say_json,
    warn_of,
)
from unlost.dlq.commands.store import as_kept, opened, run
from unlost.dlq.record.file import DamagedLine, FileError
from unlost.dlq.record.letter import iso
from unlost.dlq.record.query import Selection
from unlost.dlq.record.redacted import redacted_history
from unlost.dlq.record.sidecar import read_records, sidecar_path
from unlost.dlq.store.entries import as_values, entries_of_files, redacted_entry
from unlost.dlq.store.files import FileLetters
from unlost.ops.kit.command import UsageProblem, command, say
from unlost.ops.kit.telemetry.counted import counted


@command(
    LetterSettings,
    name="list",
    examples=("dlq list", "dlq list a.jsonl --reason exhausted --since 24h", "dlq list --state quarantined --json"),
    params=[
        files_argument(), *filter_options(), json_option(), unmasked_option(),
        click.Option(["--limit"], type=click.IntRange(min=0), default=50, show_default=True,
                     help="Show only the latest; 0 shows all."),
    ],
)  # fmt: skip
def list_letters(
    settings: LetterSettings, *, files: tuple[Path, ...], as_json: bool, limit: int, unmasked: bool, **filters: Any
) -> int:
    """List dead letters, the latest last."""
    selection = selection_of(filters)

    async def work() -> int:
        async with opened(settings, files) as store:
            page = await store.latest(selection, limit)
            warn_of(store.damages)
            shows = await redactor_of(settings, files, store, selection, unmasked="dlq list" if unmasked else "")
        found = [redacted_entry(entry, shows) for entry in page.entries]
        if as_json:
            say_json([as_values(entry) for entry in found])
        elif not found:
            say("no letters")
        else:
            print_entries(found)
            if page.count > len(found):
                say(f"the latest {len(found):,} of {page.count:,}; --limit 0 shows all", err=True)
        return 0

    return run(work)


@command(
    LetterSettings,
    examples=("dlq show 3f9c01ab", "dlq show order-4711 a.jsonl --json", "dlq show 3f9c01ab --unmasked"),
    params=[click.Argument(["wanted"], metavar="ID"), files_argument(), json_option(), unmasked_option()],
)
def show(settings: LetterSettings, *, wanted: str, files: tuple[Path, ...], as_json: bool, unmasked: bool) -> int:
    """Show everything about a letter; ID is an event's, or a letter's: whole, or its last 8 characters."""

    selection = Selection(ids=(wanted,))

    async def work() -> int:
        async with opened(settings, files) as store:
            entries = (await store.latest(selection, 0)).entries
            if not entries:
                raise UsageProblem(f"no letter in {store.where} has the id {wanted!r}; dlq list shows them")
            shows = await redactor_of(settings, files, store, selection, unmasked="dlq show" if unmasked else "")
            known = await store.history([one.letter.letter_id for one in entries])
        found = [redacted_entry(entry, shows) for entry in entries]
        history = {
            one.letter.letter_id: redacted_history(known.get(one.letter.letter_id, ()), one.letter, shows)
            for one in entries
        }
        if as_json:
            say_json([as_values(one) | {"history": history_values(history, one)} for one in found])
            return 0
        for number, entry in enumerate(found):
            if number:
                say()
            print_entry(entry, history.get(entry.letter.letter_id, ()))
        return 0

    return run(work)


@command(
    LetterSettings,
    name="groups",
    examples=("dlq groups", "dlq groups a.jsonl --since 7d --json"),
    params=[files_argument(), *filter_options(), json_option()],
)
def show_groups(settings: LetterSettings, *, files: tuple[Path, ...], as_json: bool, **filters: Any) -> int:
    """Group letters that failed alike, the largest group first. With REDACT, their messages are withheld."""
    selection = selection_of(filters)

    async def work() -> int:
        async with opened(settings, files) as store:
            found = await store.groups(selection)
            for one in found:
                one.message = settings.redactor().unknown(one.message)
            warn_of(store.damages)
        if as_json:
            say_json(
                [
                    msgspec.to_builtins(one) | {"first_at": iso(one.first_at), "last_at": iso(one.last_at)}
                    for one in found
                ]
            )
        elif not found:
            say("no letters")
        else:
            print_groups(found)
        return 0

    return run(work)


@command(
    LetterSettings,
    examples=("dlq stats", "dlq stats a.jsonl --class transient --json"),
    params=[files_argument(), *filter_options(), json_option()],
)
def stats(settings: LetterSettings, *, files: tuple[Path, ...], as_json: bool, **filters: Any) -> int:
    """Count letters by reason, class and state."""
    selection = selection_of(filters)

    async def work() -> int:
        async with as_kept(settings, files) as store:
            sums = await store.statistics(selection)
            damaged = len(store.damages)
            size = sum(path.stat().st_size for path in store.paths) if isinstance(store, FileLetters) else 0
        if not as_json:
            print_statistics(sums, damaged, size, store.where)
            return 0
        times = {
            name: None if at is None else iso(at)
            for name, at in (("first_at", sums.first_at), ("last_at", sums.last_at))
        }
        say_json({**msgspec.to_builtins(sums), **times, "damaged": damaged, "bytes": size, "where": store.where})
        return 0

    return run(work)


@command(
    LetterSettings,
    examples=("dlq verify", "dlq verify a.jsonl --json"),
    params=[files_argument(), json_option()],
)
def verify(settings: LetterSettings, *, files: tuple[Path, ...], as_json: bool) -> int:
    """Check every line of the letters and their states; exit code 1 if one is damaged."""
    damages: list[DamagedLine] = []
    paths = files_of(settings, files)
    try:
        letters = sum(1 for _ in entries_of_files(paths, Selection(), damages))
        sidecars = [sidecar for path in paths if (sidecar := sidecar_path(path)).exists()]
        records = [(sidecar, *one) for sidecar in sidecars for one in read_records(sidecar)]
    except FileError as error:
        raise as_usage(error) from None
    lost = [(sidecar, offset) for sidecar, offset, record in records if record is None]
    rows = [(_named(one.file, paths), one.offset, one.length, one.reason) for one in damages]
    rows += [(_named(sidecar, paths), offset, 0, "the line is torn or damaged") for sidecar, offset in lost]
    if as_json:
        found = [dict(zip(("file", "offset", "length", "reason"), row, strict=True)) for row in rows]
        say_json({"letters": letters, "states": len(records) - len(lost), "damaged": found})
        return 1 if rows else 0
    whole = f"{counted(letters, 'letter')} and {counted(len(records) - len(lost), 'state')}"
    say(f"{whole} are whole, {counted(len(rows), 'line')} damaged")
    if rows:
        print_table(
            ("FILE", "OFFSET", "BYTES", "WHY"),
            [(name, f"{offset:,}", f"{length:,}" if length else "", why) for name, offset, length, why in rows],
            flexible=3,
        )
        sys.stdout.flush()
    return 1 if rows else 0


def _named(path: Path, among: Sequence[Path]) -> str:
    """The short name if there is only one file."""
    return path.name if len(among) == 1 else str(path)
