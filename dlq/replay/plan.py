"""What a replay would do, and how it ended: sums and exit codes. Pure but for reading the files."""

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
    """How far a replay goes. A ``max_failures`` of 0 is no limit; so are ``limit``, ``rate`` and ``canary``."""

    rate: float = 0.0
    limit: int = 0
    canary: int = 0
    max_failures: int = 0
    max_replays: int = 3
    concurrency: int = 16
    max_event_bytes: int = 1024 * 1024


@dataclass(slots=True)
class Plan:
    """The letters that a replay would take, and those that it passes over."""

    letters: int = 0
    by_reason: Counter[str] = field(default_factory=Counter)
    over: Counter[str] = field(default_factory=Counter)
    handlers: Counter[str | None] = field(default_factory=Counter)
    damages: list[Damage] = field(default_factory=list)


@dataclass(slots=True)
class Report:
    """How a replay went. ``stopped`` says which threshold ended it, ``trouble`` what broke."""

    stored: int = 0
    already_stored: int = 0
    failed: int = 0
    quarantined: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    stopped: str = ""
    trouble: str = ""
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
        """The code that a command ends with."""
        if self.interrupted:
            return INTERRUPTED
        if self.stopped:
            return STOPPED
        return SOME_FAILED if self.failed or self.trouble else RESOLVED


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A file as it is now: letters before ``end``, and what became of them so far."""

    path: Path
    end: int
    known: dict[str, LetterState]


def snapshot(path: Path) -> Snapshot:
    """Look at a file. States first: what comes between the two looks is a letter that waits."""
    known = states(path)
    return Snapshot(path, settled_size(path), known)


def is_held_back(letter: Letter, selection: Selection) -> bool:
    """A handler said that the event is never to be tried again: it is not, unless somebody asks for it."""
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
