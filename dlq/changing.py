"""The commands that change what is known of letters: archive, restore, compact."""

import os
import time
from collections.abc import Iterator
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import click

from dlq.book import book
from dlq.compact import compact as compact_file
from dlq.file import Damage, FileTrouble, Guard
from dlq.options import (
    LetterSettings,
    as_usage,
    file_argument,
    file_of,
    filter_options,
    json_option,
    selection_of,
)
from dlq.plan import LOCKED
from dlq.selection import Selection
from dlq.shown import say_json, warn_of
from dlq.sidecar import Record, Sidecar, What
from ops.command import UsageProblem, command

GROUP = 1000
CHANGEABLE: dict[What, frozenset[str]] = {
    "archived": frozenset({"open", "failed", "quarantined"}),
    "restored": frozenset({"archived", "quarantined"}),
}
"""The states that a letter may be in to be archived, or restored."""
ALL = click.Option(["--all", "everything"], is_flag=True, help="Mean every letter, where no filter is given.")


def replay_guard(path: Path) -> Guard:
    """The lock of whoever replays or compacts the file."""
    return Guard(path.with_name(path.name + ".replay"))


def say_locked(path: Path, guard: Guard) -> int:
    """Tell who holds the lock; the exit code."""
    click.echo(f"error: {path} is being replayed or compacted by {guard.holder()}; try again when it is done", err=True)
    return LOCKED


def guard_text() -> str:
    """What the next one is told about this process."""
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return f"pid {os.getpid()} on {os.uname().nodename} since {since}"


@command(
    LetterSettings,
    examples=("dlq archive --fingerprint 3f9c01ab --why 'test orders'", "dlq archive a.jsonl --until 90d --why old"),
    params=[
        file_argument(),
        *filter_options(),
        json_option(),
        ALL,
        click.Option(["--why"], required=True, help="The reason, kept with the letters."),
    ],
)
def archive(
    settings: LetterSettings, *, file: Path | None, as_json: bool, everything: bool, why: str, **filters: Any
) -> int:
    """Put letters aside: a replay passes over them, restore brings them back."""
    return _change(settings, file, filters, everything, "archived", why, as_json)


@command(
    LetterSettings,
    examples=("dlq restore --id order-4711", "dlq restore a.jsonl --state quarantined"),
    params=[file_argument(), *filter_options(), json_option(), ALL],
)
def restore(settings: LetterSettings, *, file: Path | None, as_json: bool, everything: bool, **filters: Any) -> int:
    """Bring archived and quarantined letters back, their replays counted from zero."""
    return _change(settings, file, filters, everything, "restored", "", as_json)


def change(path: Path, selection: Selection, what: What, detail: str = "") -> tuple[int, list[Damage]]:
    """Archive or restore the letters that are meant and can be; how many, and what could not be read."""
    damages: list[Damage] = []
    sidecar = Sidecar(path)
    changed = 0
    try:
        at = time.time()
        records = (
            Record(entry.letter.letter_id, what, at, detail)
            for entry in book(path, selection, damages)
            if entry.state.status in CHANGEABLE[what]
        )
        for group in _groups(records):
            sidecar.append(group)
            changed += len(group)
    finally:
        sidecar.close()
    return changed, damages


def _change(
    settings: LetterSettings,
    file: Path | None,
    filters: dict[str, Any],
    everything: bool,
    what: What,
    detail: str,
    as_json: bool,
) -> int:
    path, selection = file_of(settings, file), selection_of(filters)
    if selection.everything and not everything:
        raise UsageProblem("say which letters are meant, by --id or another filter, or give --all")
    try:
        changed, damages = change(path, selection, what, detail)
    except FileTrouble as error:
        raise as_usage(error) from None
    warn_of(damages)
    if as_json:
        say_json({what: changed})
    else:
        click.echo(f"{what} {changed:,} letters")
    return 0


def _groups(records: Iterator[Record]) -> Iterator[list[Record]]:
    while group := list(islice(records, GROUP)):
        yield group


@command(
    LetterSettings,
    examples=("dlq compact", "dlq compact a.jsonl --drop-archived --json"),
    params=[
        file_argument(),
        json_option(),
        click.Option(["--drop-archived"], is_flag=True, help="Drop archived letters too."),
        click.Option(["--drop-damaged"], is_flag=True, help="Drop lines that cannot be read too."),
    ],
)
def compact(
    settings: LetterSettings, *, file: Path | None, as_json: bool, drop_archived: bool, drop_damaged: bool
) -> int:
    """Rewrite the file without resolved letters, while listeners go on."""
    path = file_of(settings, file)
    guard = replay_guard(path)
    try:
        if not guard.take(guard_text()):
            return say_locked(path, guard)
        sums = compact_file(path, drop_archived=drop_archived, drop_damaged=drop_damaged)
    except FileTrouble as error:
        raise as_usage(error) from None
    finally:
        guard.release()
    if as_json:
        say_json(asdict(sums))
        return 0
    click.echo(f"kept {sums.kept:,} letters, dropped {sums.dropped:,}; {sums.bytes_before:,} bytes became "
               f"{sums.bytes_after:,}")  # fmt: skip
    if sums.damaged_kept or sums.damaged_dropped:
        click.echo(f"damaged lines: kept {sums.damaged_kept:,}, dropped {sums.damaged_dropped:,}")
    return 0
