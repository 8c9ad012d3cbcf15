"""Letters combined with their states, and their sums: groups and statistics."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from heapq import merge
from itertools import chain
from pathlib import Path
from typing import Any

from unlost.dlq.record.file import Damage, read_letters
from unlost.dlq.record.letter import Letter, iso, shown
from unlost.dlq.record.query import Selection
from unlost.dlq.record.sidecar import OPEN, LetterState, states


@dataclass(frozen=True, slots=True)
class Entry:
    """A letter, its position, and its state."""

    letter: Letter
    state: LetterState
    offset: int
    file: Path


def entries(
    path: Path, selection: Selection, known: dict[str, LetterState], damaged: Callable[[Damage], None]
) -> Iterator[Entry]:
    """The selected letters of a file, in order. Every damaged line is passed to ``damaged``."""
    for one in read_letters(path):
        if isinstance(one, Damage):
            damaged(one)
            continue
        state = known.get(one.letter.letter_id, OPEN)
        if selection.takes(one.letter, state):
            yield Entry(one.letter, state, one.offset, path)


def book(path: Path, selection: Selection, damages: list[Damage]) -> Iterator[Entry]:
    """``entries`` with the states that are in the sidecar now."""
    return entries(path, selection, states(path), damages.append)


def books(paths: Iterable[Path], selection: Selection, damages: list[Damage]) -> Iterator[Entry]:
    """``book`` of several files, one after the other."""
    return chain.from_iterable(book(path, selection, damages) for path in paths)


def in_time(paths: Iterable[Path], selection: Selection, damages: list[Damage]) -> Iterator[Entry]:
    """``book`` of several files, merged by time. Each single file is in order of time already."""
    return merge(*(book(path, selection, damages) for path in paths), key=lambda one: one.letter.last_at)


def as_values(entry: Entry) -> dict[str, Any]:
    """An entry as plain values."""
    return {
        **shown(entry.letter), "state": state_values(entry.state), "file": str(entry.file), "offset": entry.offset,
    }  # fmt: skip


def state_values(state: LetterState) -> dict[str, Any]:
    """A state as plain values."""
    return {
        "status": state.status,
        "failed_replays": state.replays,
        "at": None if state.at is None else iso(state.at),
        "detail": state.detail,
        "error_type": state.error_type,
    }


@dataclass(slots=True)
class Group:
    """Letters with the same fingerprint."""

    fingerprint: str
    reason: str
    error_type: str
    message: str
    first_at: float
    last_at: float
    letters: int = 0
    waiting: int = 0

    def add(self, entry: Entry) -> None:
        """Add one letter."""
        self.letters += 1
        self.waiting += entry.state.waits
        self.first_at = min(self.first_at, entry.letter.first_at)
        self.last_at = max(self.last_at, entry.letter.last_at)


def groups(found: Iterable[Entry]) -> list[Group]:
    """The groups, the largest first."""
    known: dict[str, Group] = {}
    for entry in found:
        letter = entry.letter
        group = known.get(letter.fingerprint)
        if group is None:
            group = known[letter.fingerprint] = Group(
                letter.fingerprint, letter.reason, letter.error_type, letter.message, letter.first_at, letter.last_at
            )
        group.add(entry)
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


def statistics(found: Iterable[Entry]) -> Statistics:
    """The statistics of these letters."""
    sums = Statistics()
    for entry in found:
        letter = entry.letter
        sums.letters += 1
        sums.waiting += entry.state.waits
        sums.by_reason[letter.reason] += 1
        sums.by_class[letter.error_class] += 1
        sums.by_state[entry.state.status] += 1
        sums.first_at = letter.first_at if sums.first_at is None else min(sums.first_at, letter.first_at)
        sums.last_at = letter.last_at if sums.last_at is None else max(sums.last_at, letter.last_at)
    return sums
