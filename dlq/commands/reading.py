"""The commands that only read: list, show, groups, stats, export, verify."""

import sys
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import click
import msgspec

from unlost.dlq.commands.collector import as_values, books, groups, in_time, statistics
from unlost.dlq.commands.options import (
    LetterSettings,
    as_usage,
    files_argument,
    files_of,
    filter_options,
    json_option,
    selection_of,
)  # fmt: skip
from unlost.dlq.commands.render import (
    print_entries,
    print_entry,
    print_groups,
    print_statistics,
    print_table,
    say_json,
    warn_of,
)
from unlost.dlq.record.file import Damage, FileError
from unlost.dlq.record.letter import encode, iso
from unlost.dlq.record.query import Selection, names
from unlost.dlq.record.sidecar import read_records, sidecar_path
from unlost.ops.kit.command import UsageProblem, command, say
from unlost.ops.kit.telemetry.printable import printable_json


@command(
    LetterSettings,
    name="list",
    examples=("dlq list", "dlq list a.jsonl --reason exhausted --since 24h", "dlq list --state quarantined --json"),
    params=[
        files_argument(), *filter_options(), json_option(),
        click.Option(["--limit"], type=click.IntRange(min=0), default=50, show_default=True,
                     help="Show only the latest; 0 shows all."),
    ],
)  # fmt: skip
def list_letters(
    settings: LetterSettings, *, files: tuple[Path, ...], as_json: bool, limit: int, **filters: Any
) -> int:
    """List dead letters, the latest last."""
    damages: list[Damage] = []
    paths, selection = files_of(settings, files), selection_of(filters)
    count = 0
    latest: deque[Any] = deque(maxlen=limit or None)
    try:
        for entry in in_time(paths, selection, damages):
            latest.append(entry)
            count += 1
    except FileError as error:
        raise as_usage(error) from None
    warn_of(damages)
    if as_json:
        say_json([as_values(entry) for entry in latest])
    elif not latest:
        say("no letters")
    else:
        print_entries(latest)
        if count > len(latest):
            say(f"the latest {len(latest):,} of {count:,}; --limit 0 shows all", err=True)
    return 0


@command(
    LetterSettings,
    examples=("dlq show 3f9c01ab", "dlq show order-4711 a.jsonl --json"),
    params=[click.Argument(["wanted"], metavar="ID"), files_argument(), json_option()],
)
def show(settings: LetterSettings, *, wanted: str, files: tuple[Path, ...], as_json: bool) -> int:
    """Show everything about a letter; ID is an event's, or the beginning or end of a letter's."""
    damages: list[Damage] = []
    paths = files_of(settings, files)
    try:
        found = [entry for entry in in_time(paths, Selection(), damages) if names(wanted, entry.letter)]
    except FileError as error:
        raise as_usage(error) from None
    if not found:
        where = ", ".join(map(str, paths)) or "any file"
        raise UsageProblem(f"no letter in {where} has the id {wanted!r}; dlq list shows them")
    if as_json:
        say_json([as_values(entry) for entry in found])
        return 0
    for number, entry in enumerate(found):
        if number:
            say()
        print_entry(entry)
    return 0


@command(
    LetterSettings,
    name="groups",
    examples=("dlq groups", "dlq groups a.jsonl --since 7d --json"),
    params=[files_argument(), *filter_options(), json_option()],
)
def show_groups(settings: LetterSettings, *, files: tuple[Path, ...], as_json: bool, **filters: Any) -> int:
    """Group letters that failed alike, the largest group first."""
    damages: list[Damage] = []
    paths, selection = files_of(settings, files), selection_of(filters)
    try:
        found = groups(books(paths, selection, damages))
    except FileError as error:
        raise as_usage(error) from None
    warn_of(damages)
    if as_json:
        say_json(
            [msgspec.to_builtins(one) | {"first_at": iso(one.first_at), "last_at": iso(one.last_at)} for one in found]
        )
    elif not found:
        say("no letters")
    else:
        print_groups(found)
    return 0


@command(
    LetterSettings,
    examples=("dlq stats", "dlq stats a.jsonl --class transient --json"),
    params=[files_argument(), *filter_options(), json_option()],
)
def stats(settings: LetterSettings, *, files: tuple[Path, ...], as_json: bool, **filters: Any) -> int:
    """Count letters by reason, class and state."""
    damages: list[Damage] = []
    paths, selection = files_of(settings, files), selection_of(filters)
    try:
        sums = statistics(books(paths, selection, damages))
        size = sum(path.stat().st_size for path in paths)
    except FileError as error:
        raise as_usage(error) from None
    if not as_json:
        print_statistics(sums, len(damages), size)
        return 0
    times = {
        name: None if at is None else iso(at) for name, at in (("first_at", sums.first_at), ("last_at", sums.last_at))
    }
    say_json({**msgspec.to_builtins(sums), **times, "damaged": len(damages), "bytes": size})
    return 0


@command(
    LetterSettings,
    examples=(
        "dlq export --state open > events.ndjson",
        "dlq export a.jsonl --as letters --reason conflict --output conflicts.jsonl",
    ),
    params=[
        files_argument(), *filter_options(), json_option(),
        click.Option(["--as", "kind"], type=click.Choice(["events", "letters"]), default="events", show_default=True,
                     help="Events as NDJSON, or whole letters."),
        click.Option(["--output"], type=click.File("wb"), default="-", help="Output file; - is standard output."),
    ],
)  # fmt: skip
def export(
    settings: LetterSettings, *, files: tuple[Path, ...], as_json: bool, kind: str, output: BinaryIO, **filters: Any
) -> int:
    """Write the events of letters, one per line, exactly as their publishers wrote them (always JSON)."""
    del as_json  # both forms are JSON already
    damages: list[Damage] = []
    paths, selection = files_of(settings, files), selection_of(filters)
    written = without = 0
    try:
        for entry in books(paths, selection, damages):
            line = encode(entry.letter) if kind == "letters" else entry.letter.event
            if line is None:
                without += 1
                continue
            output.write(_for(output, line) + b"\n")
            written += 1
    except FileError as error:
        raise as_usage(error) from None
    output.flush()
    warn_of(damages)
    left_out = f"; {without:,} hold no valid event, --as letters writes them" if without else ""
    say(f"exported {written:,} {kind}{left_out}", err=True)
    return 0


@command(
    LetterSettings,
    examples=("dlq verify", "dlq verify a.jsonl --json"),
    params=[files_argument(), json_option()],
)
def verify(settings: LetterSettings, *, files: tuple[Path, ...], as_json: bool) -> int:
    """Check every line of the letters and their states; exit code 1 if one is damaged."""
    damages: list[Damage] = []
    paths = files_of(settings, files)
    try:
        letters = sum(1 for _ in books(paths, Selection(), damages))
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
    say(f"{letters:,} letters and {len(records) - len(lost):,} states are whole, {len(rows):,} lines damaged")
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


def _for(output: BinaryIO, line: bytes) -> bytes:
    """The line as its publisher wrote it; on a terminal with control characters escaped."""
    return printable_json(line.decode(errors="backslashreplace")).encode() if output.isatty() else line
