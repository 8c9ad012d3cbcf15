"""Letters combined with their states, and their sums: groups and statistics."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from heapq import merge
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec

from unlost.dlq.record.file import DamagedLine, Located, read_letters, read_outlines
from unlost.dlq.record.letter import Letter, iso
from unlost.dlq.record.letter_line import letter_values
from unlost.dlq.record.letter_state import OPEN, LetterState
from unlost.dlq.record.query import Outlined, Selection
from unlost.dlq.record.redacted import redacted, redacted_about
from unlost.dlq.record.sidecar import states
from unlost.dlq.record.versions import EditedEvents
from unlost.ops.kit.telemetry.redact import Redactor, content_of

BYTES_AT_ONCE = 4 * 1024 * 1024
"""So much of letters is read or taken at once, or one that is larger."""


class LetterEntry(msgspec.Struct, frozen=True):
    """A letter and its state; for one that was read from a file, also its position.

    ``edited``: the event of its newest version, if it was edited.
    """

    letter: Letter
    state: LetterState
    offset: int | None = None
    file: Path | None = None
    unreadable: str = ""
    """Why the letter cannot be read; then it has only what the fleet's list knows of it."""
    edited: bytes | None = None


def entries(
    path: Path, selection: Selection, known: dict[str, LetterState], damaged: Callable[[DamagedLine], None]
) -> Iterator[LetterEntry]:
    """The selected letters of a file, in order. Every damaged line is passed to ``damaged``."""
    edits, every = EditedEvents(path), selection.everything
    for one in read_letters(path):
        if isinstance(one, DamagedLine):
            damaged(one)
            continue
        state = known.get(one.letter.letter_id, OPEN)
        if every or selection.takes(one.letter, state):
            yield entry_of(one, state, path, edits)


def entry_of(one: Located, state: LetterState, path: Path, edits: EditedEvents) -> LetterEntry:
    """An entry of a file, with its newest version."""
    if state.version == 1:
        return LetterEntry(one.letter, state, one.offset, path)
    edited = edits.newest(one.letter.letter_id)
    why = f"its version {state.version} is not in {path.name}.state" if edited is None else ""
    return LetterEntry(one.letter, state, one.offset, path, why, edited)


def current_entries(path: Path, selection: Selection, damages: list[DamagedLine]) -> Iterator[LetterEntry]:
    """Return ``entries`` with the states that are in the sidecar now."""
    return entries(path, selection, states(path), damages.append)


def entries_of_files(paths: Iterable[Path], selection: Selection, damages: list[DamagedLine]) -> Iterator[LetterEntry]:
    """Return ``current_entries`` of several files, one after the other."""
    return chain.from_iterable(current_entries(path, selection, damages) for path in paths)


Counted = tuple[Outlined, LetterState]
"""A letter, or its outline, and its state."""


def outlines(paths: Iterable[Path], selection: Selection, damages: list[DamagedLine]) -> Iterator[Counted]:
    """Return the selected letters of several files to be counted, with the states that are in their sidecars now."""
    every = selection.everything
    for path in paths:
        known = states(path)
        for one in read_outlines(path):
            if isinstance(one, DamagedLine):
                damages.append(one)
                continue
            state = known.get(one.letter_id, OPEN)
            if every or selection.takes(one, state):
                yield one, state


def in_time(paths: Iterable[Path], selection: Selection, damages: list[DamagedLine]) -> Iterator[LetterEntry]:
    """Return ``current_entries`` of several files, merged by time. Each single file is in order of time already."""
    return merge(*(current_entries(path, selection, damages) for path in paths), key=lambda one: one.letter.last_at)


def size_of_entry(entry: LetterEntry) -> int:
    """Return the bytes of what a letter holds."""
    return len(entry.letter.event or entry.letter.raw or b"") + len(entry.edited or b"")


def next_batch(found: Iterator[LetterEntry], most: int, size: int = BYTES_AT_ONCE) -> list[LetterEntry]:
    """Take up to ``most`` letters, and no more once they have so many bytes."""
    taken: list[LetterEntry] = []
    while len(taken) < most and size > 0 and (entry := next(found, None)) is not None:
        taken.append(entry)
        size -= size_of_entry(entry)
    return taken


def as_values(entry: LetterEntry) -> dict[str, Any]:
    """An entry as plain values."""
    unreadable = {"unreadable": entry.unreadable} if entry.unreadable else {}
    state = {"state": state_values(entry.state)}
    edited = {} if entry.edited is None else {"version": entry.state.version, "edited": msgspec.Raw(entry.edited)}
    return {**letter_values(entry.letter), **edited, **unreadable, **state, **position_values(entry)}


def redacted_entry(entry: LetterEntry, redactor: Redactor) -> LetterEntry:
    """Mask a letter and its state, whose detail may quote the payload unless it is why a person archived it."""
    state = entry.state
    if state.status != "archived" or state.error_type is not None:  # a failure after that replaced the reason
        state = msgspec.structs.replace(
            state, detail=redacted_about(state.detail, entry.letter, redactor, entry.edited)
        )
    edited = entry.edited if not redactor.masks or entry.edited is None else redactor.content(content_of(entry.edited))
    return msgspec.structs.replace(entry, letter=redacted(entry.letter, redactor), state=state, edited=edited)


def position_values(entry: LetterEntry) -> dict[str, Any]:
    """The letter's position in a file, if it was read from one."""
    return {} if entry.file is None else {"file": str(entry.file), "offset": entry.offset}


def state_values(state: LetterState) -> dict[str, Any]:
    """A state as plain values."""
    return {
        "status": state.status,
        "failed_replays": state.replays,
        "at": None if state.at is None else iso(state.at),
        "detail": state.detail,
        "error_type": state.error_type,
        "by": state.by,
        "version": state.version,
        "assigned": state.assigned,
    }


@dataclass(slots=True)
class LetterGroup:
    """Letters with the same fingerprint."""

    fingerprint: str
    reason: str
    error_type: str
    message: str
    first_at: float
    last_at: float
    letters: int = 0
    waiting: int = 0

    def add(self, letter: Outlined, state: LetterState) -> None:
        """Add one letter."""
        self.letters += 1
        self.waiting += state.waits
        self.first_at = min(self.first_at, letter.first_at)
        self.last_at = max(self.last_at, letter.last_at)


def groups(found: Iterable[Counted]) -> list[LetterGroup]:
    """The groups, the largest first."""
    known: dict[str, LetterGroup] = {}
    for letter, state in found:
        group = known.get(letter.fingerprint)
        if group is None:
            group = known[letter.fingerprint] = LetterGroup(
                letter.fingerprint, letter.reason, letter.error_type, letter.message, letter.first_at, letter.last_at
            )
        group.add(letter, state)
    return sorted(known.values(), key=lambda one: (-one.letters, one.fingerprint))


@dataclass(slots=True)
class Statistics:
    """Counts of letters, and the time span they cover."""

    letters: int = 0
    waiting: int = 0
    by_reason: Counter[str] = field(default_factory=Counter)
    by_class: Counter[str] = field(default_factory=Counter)
    by_state: Counter[str] = field(default_factory=Counter)
    first_at: float | None = None
    last_at: float | None = None


def statistics(found: Iterable[Counted]) -> Statistics:
    """The statistics of these letters."""
    sums = Statistics()
    for letter, state in found:
        sums.letters += 1
        sums.waiting += state.waits
        sums.by_reason[letter.reason] += 1
        sums.by_class[letter.error_class] += 1
        sums.by_state[state.status] += 1
        first_at, last_at = letter.first_at, letter.last_at
        sums.first_at = first_at if sums.first_at is None else min(sums.first_at, first_at)
        sums.last_at = last_at if sums.last_at is None else max(sums.last_at, last_at)
    return sums
