"""The plan and the report of a replay: sums and exit codes. Pure, except for reading the files."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from unlost.dlq.record.file import Damage, read_letters, settled_size
from unlost.dlq.record.letter import Letter
from unlost.dlq.record.query import Selection
from unlost.dlq.record.sidecar import OPEN, LetterState, states

RESOLVED, SOME_FAILED, USAGE, LOCKED, STOPPED, INTERRUPTED = 0, 1, 2, 3, 4, 130


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of a replay. A 0 in ``max_failures``, ``limit``, ``rate`` or ``canary`` means no limit."""

    rate: float = 0.0
    limit: int = 0
    canary: int = 0
    max_failures: int = 0
    max_replays: int = 3
    concurrency: int = 16
    max_event_bytes: int = 1024 * 1024


@dataclass(slots=True)
class Plan:
    """The letters that a replay would take, and those that it would skip."""

    letters: int = 0
    by_reason: Counter[str] = field(default_factory=Counter)
    over: Counter[str] = field(default_factory=Counter)
    handlers: Counter[str | None] = field(default_factory=Counter)
    groups: Counter[str | None] = field(default_factory=Counter)
    damages: list[Damage] = field(default_factory=list)


@dataclass(slots=True)
class Report:
    """How a replay went. ``stopped`` names the threshold that ended it, ``error`` the error that did."""

    stored: int = 0
    already_stored: int = 0
    failed: int = 0
    quarantined: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    stopped: str = ""
    error: str = ""
    interrupted: bool = False

    @property
    def resolved(self) -> int:
        """Letters whose event is a row now."""
        return self.stored + self.already_stored

    @property
    def done(self) -> int:
        """Letters that were run."""
        return self.resolved + self.failed

    def exit_code(self) -> int:
        """The exit code of the command."""
        if self.interrupted:
            return INTERRUPTED
        if self.stopped:
            return STOPPED
        return SOME_FAILED if self.failed or self.error else RESOLVED


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A file at one moment: its letters before ``end``, and their states."""

    path: Path
    end: int
    known: dict[str, LetterState]


def snapshot(path: Path) -> Snapshot:
    """Read a file's states and size. States come first: a letter added in between then counts as waiting."""
    known = states(path)
    return Snapshot(path, settled_size(path), known)


def is_held_back(letter: Letter, selection: Selection) -> bool:
    """Whether to skip a letter because the handler rejected its event for good, and it was not asked for."""
    return letter.reason == "rejected" and not selection.asks_for_rejected


def plan(shots: Sequence[Snapshot], selection: Selection, limit: int) -> Plan:
    """What a replay of these files would do."""
    sums = Plan()
    for shot in shots:
        for one in read_letters(shot.path, end=shot.end):
            if isinstance(one, Damage):
                sums.damages.append(one)
                continue
            state = shot.known.get(one.letter.letter_id, OPEN)
            if not selection.takes(one.letter, state):
                continue
            if not state.waits:
                sums.over[state.status] += 1
            elif is_held_back(one.letter, selection):
                sums.over["rejected"] += 1
            elif not limit or sums.letters < limit:
                sums.letters += 1
                sums.by_reason[one.letter.reason] += 1
                sums.handlers[one.letter.handler] += 1
                sums.groups[one.letter.group] += 1
    return sums


def chosen(shots: Sequence[Snapshot], selection: Selection, limit: int) -> Iterator[tuple[Path, Letter, LetterState]]:
    """The letters that a replay takes, each with its file, one at a time."""
    waiting = (
        (shot.path, one.letter, state)
        for shot in shots
        for one in read_letters(shot.path, end=shot.end)
        if not isinstance(one, Damage)
        and (state := shot.known.get(one.letter.letter_id, OPEN)).waits
        and selection.takes(one.letter, state)
        and not is_held_back(one.letter, selection)
    )
    return islice(waiting, limit or None)
