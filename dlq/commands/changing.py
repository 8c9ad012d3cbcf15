"""The commands that change states or files of letters: archive, restore, compact."""

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import click

from unlost.dlq.commands.collector import book
from unlost.dlq.commands.compact import compact as compact_file
from unlost.dlq.commands.compact import total
from unlost.dlq.commands.options import (
    LetterSettings,
    as_usage,
    files_argument,
    files_of,
    filter_options,
    json_option,
    selection_of,
)
from unlost.dlq.commands.render import say_json, warn_of
from unlost.dlq.record.file import Damage, FileError, replay_guard
from unlost.dlq.record.query import Selection
from unlost.dlq.record.sidecar import Record, Sidecar, What
from unlost.dlq.replay.plan import LOCKED
from unlost.ops.kit.command import UsageProblem, command, say

GROUP = 1000
CHANGEABLE: dict[What, frozenset[str]] = {
    "archived": frozenset({"open", "failed", "quarantined"}),
    "restored": frozenset({"archived", "quarantined"}),
}
"""The states from which a letter can be archived or restored."""
ALL = click.Option(["--all", "everything"], is_flag=True, help="Change every letter, if no filter is given.")


class Locked(Exception):
    """Another process replays or compacts one of the files. The text says which file, and who."""


@contextlib.contextmanager
def replay_guards(paths: Sequence[Path]) -> Iterator[None]:
    """Hold the locks of all files, or raise ``Locked`` and hold none."""
    with contextlib.ExitStack() as held:
        for path in paths:
            guard = replay_guard(path)
            held.callback(guard.release)
            if not guard.take(_about_us()):
                raise Locked(f"{path} is being replayed or compacted by {guard.holder()}; try again when it is done")
        yield


def say_locked(error: Locked) -> int:
    """Print who holds the lock. Returns the exit code."""
    say(f"error: {error}", err=True)
    return LOCKED


def _about_us() -> str:
    """How this process describes itself to others that want the lock."""
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return f"pid {os.getpid()} on {os.uname().nodename} since {since}"


@command(
    LetterSettings,
    examples=("dlq archive --fingerprint 3f9c01ab --why 'test orders'", "dlq archive a.jsonl --until 90d --why old"),
    params=[
        files_argument(),
        *filter_options(),
        json_option(),
        ALL,
        click.Option(["--why"], required=True, help="The reason, kept with the letters."),
    ],
)
def archive(
    settings: LetterSettings, *, files: tuple[Path, ...], as_json: bool, everything: bool, why: str, **filters: Any
) -> int:
    """Put letters aside: a replay skips them, restore brings them back."""
    return _change(settings, files, filters, everything, "archived", why, as_json)


@command(
    LetterSettings,
    examples=("dlq restore --id order-4711", "dlq restore a.jsonl --state quarantined"),
    params=[files_argument(), *filter_options(), json_option(), ALL],
)
def restore(
    settings: LetterSettings, *, files: tuple[Path, ...], as_json: bool, everything: bool, **filters: Any
) -> int:
    """Bring archived and quarantined letters back, with their count of failed replays at zero."""
    return _change(settings, files, filters, everything, "restored", "", as_json)


def change(path: Path, selection: Selection, what: What, detail: str = "") -> tuple[int, list[Damage]]:
    """Archive or restore the selected letters. Returns how many changed, and the damaged lines."""
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
    files: tuple[Path, ...],
    filters: dict[str, Any],
    everything: bool,
    what: What,
    detail: str,
    as_json: bool,
) -> int:
    paths, selection = files_of(settings, files), selection_of(filters)
    if selection.everything and not everything:
        raise UsageProblem("say which letters are meant, by --id or another filter, or give --all")
    try:
        done = [change(path, selection, what, detail) for path in paths]
    except FileError as error:
        raise as_usage(error) from None
    changed = sum(count for count, _ in done)
    warn_of(damage for _, damages in done for damage in damages)
    if as_json:
        say_json({what: changed})
    else:
        say(f"{what} {changed:,} letters")
    return 0


def _groups(records: Iterator[Record]) -> Iterator[list[Record]]:
    while group := list(islice(records, GROUP)):
        yield group


@command(
    LetterSettings,
    examples=("dlq compact", "dlq compact a.jsonl --drop-archived --json"),
    params=[
        files_argument(),
        json_option(),
        click.Option(["--drop-archived"], is_flag=True, help="Drop archived letters too."),
        click.Option(["--drop-damaged"], is_flag=True, help="Drop lines that cannot be read too."),
    ],
)
def compact(
    settings: LetterSettings, *, files: tuple[Path, ...], as_json: bool, drop_archived: bool, drop_damaged: bool
) -> int:
    """Rewrite the files without resolved letters, while listeners keep running.

    A dropped letter cannot be reopened if an older backup of PostgreSQL is restored later.
    """
    paths = files_of(settings, files)
    try:
        with replay_guards(paths):
            every = [compact_file(path, drop_archived=drop_archived, drop_damaged=drop_damaged) for path in paths]
    except FileError as error:
        raise as_usage(error) from None
    except Locked as error:
        return say_locked(error)
    sums = total(every)
    if as_json:
        say_json(asdict(sums))
        return 0
    say(
        f"kept {sums.kept:,} letters, dropped {sums.dropped:,}; {sums.bytes_before:,} bytes became {sums.bytes_after:,}"
    )
    if sums.damaged_kept or sums.damaged_dropped:
        say(f"damaged lines: kept {sums.damaged_kept:,}, dropped {sums.damaged_dropped:,}")
    return 0
