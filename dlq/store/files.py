"""Letters in files, with their states beside them: works without any server.

A replay locks whole files. That keeps two replays of one file apart, and a replay from ``compact``.
"""

import asyncio
import contextlib
import os
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from unlost.dlq.record.file import DamagedLine, read_letters, read_outlines, replay_guard, settled_size
from unlost.dlq.record.letter_state import OPEN, LetterState, Record, Status, What, later_than
from unlost.dlq.record.query import Selection
from unlost.dlq.record.sidecar import Sidecar, Sidecars, encode, states
from unlost.dlq.record.versions import EditedEvents, history_of
from unlost.dlq.store.entries import (
    BYTES_AT_ONCE,
    LetterEntry,
    LetterGroup,
    Statistics,
    current_entries,
    entries_of_files,
    entry_of,
    groups,
    in_time,
    next_batch,
    outlines,
    size_of_entry,
    statistics,
)
from unlost.dlq.store.port import (
    CHANGEABLE,
    LetterPage,
    Locked,
    Plan,
    TakenLetters,
    Unreachable,
    is_held_back,
    taken_by,
)

AT_ONCE = 1000
A_FEW = 64
"""So many letters are read or written before other tasks have their turn: about a millisecond."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A file at one moment: its letters before ``end``, and their states."""

    path: Path
    end: int
    known: dict[str, LetterState]


class FileLetters:
    """``LetterStore`` over dead-letter files."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = tuple(paths)
        self.damages: list[DamagedLine] = []

    @property
    def where(self) -> str:
        """The names of the files."""
        return ", ".join(map(str, self.paths)) or "any file"

    async def latest(self, selection: Selection, limit: int) -> LetterPage:
        """See ``LetterStore``."""
        return await asyncio.to_thread(self._latest, selection, limit)

    def _latest(self, selection: Selection, limit: int) -> LetterPage:
        latest: deque[LetterEntry] = deque(maxlen=limit or None)
        count = 0
        for entry in in_time(self.paths, selection, self.damages):
            latest.append(entry)
            count += 1
        return LetterPage(tuple(latest), count)

    async def each(self, selection: Selection) -> AsyncIterator[Sequence[LetterEntry]]:
        """See ``LetterStore``."""
        found = entries_of_files(self.paths, selection, self.damages)
        while some := await asyncio.to_thread(next_batch, found, AT_ONCE):
            yield some

    async def groups(self, selection: Selection) -> list[LetterGroup]:
        """See ``LetterStore``."""
        return await asyncio.to_thread(lambda: groups(outlines(self.paths, selection, self.damages)))

    async def statistics(self, selection: Selection) -> Statistics:
        """See ``LetterStore``."""
        return await asyncio.to_thread(lambda: statistics(outlines(self.paths, selection, self.damages)))

    async def blocking(self, selection: Selection) -> int:
        """See ``LetterStore``. Whether a letter with a key blocks it still, PostgreSQL alone knows."""
        return await asyncio.to_thread(
            lambda: sum(
                entry.letter.order_key is not None and entry.state.status != "resolved"
                for entry in entries_of_files(self.paths, selection, self.damages)
            )
        )

    async def change(
        self, selection: Selection, what: What, detail: str, by: str, *, followers_go: bool = False
    ) -> int:
        """See ``LetterStore``."""
        if followers_go:
            raise Unreachable("PostgreSQL keeps which keys are blocked: name no file, and set DATABASE_URL")
        return await asyncio.to_thread(
            lambda: sum(change(path, selection, what, detail, by, self.damages) for path in self.paths)
        )

    async def history(self, letter_ids: Sequence[str]) -> dict[str, list[Record]]:
        """See ``LetterStore``."""
        found = await asyncio.to_thread(lambda: [history_of(path, letter_ids) for path in self.paths])
        return {one: [record for some in found for record in some.get(one, ())] for one in letter_ids}

    async def still_answers(self) -> bool:
        """See ``LetterStore``. No server is needed."""
        return True

    async def plan(self, selection: Selection, limit: int) -> Plan:
        """See ``LetterStore``."""
        return await asyncio.to_thread(lambda: plan([snapshot(path) for path in self.paths], selection, limit))

    @contextlib.asynccontextmanager
    async def replaying(
        self, selection: Selection, limit: int, about: str, takes: frozenset[Status] | None = None
    ) -> AsyncIterator[TakenLetters]:
        """See ``LetterStore``."""
        takes = takes or taken_by(selection)
        with replay_guards(self.paths, about):
            shots = await asyncio.to_thread(lambda: [snapshot(path) for path in self.paths])
            with contextlib.closing(Sidecars()) as sidecars:
                yield _FilesTaken(chosen(shots, selection, takes), limit, sidecars)


class _FilesTaken:
    """``TakenLetters``: the files are locked as a whole.

    Letters are read, and records encoded, on the event loop, a few at a time. A thread that only computes would make
    the loop wait for the interpreter 5 ms after each call to a server. A thread waits for the disk alone.
    """

    def __init__(self, letters: Iterator[LetterEntry | None], limit: int, sidecars: Sidecars) -> None:
        """``letters``: None for each that is passed over. ``limit``: at most so many are taken; 0 for all."""
        self.elsewhere = self.unreadable = 0
        self._letters = letters
        self._left = limit or sys.maxsize
        self._sidecars = sidecars

    async def take(self, most: int) -> Sequence[LetterEntry]:
        """See ``TakenLetters``."""
        taken: list[LetterEntry] = []
        size, looks = 0, 0
        while self._left and len(taken) < most and (size < BYTES_AT_ONCE or not taken):
            try:
                entry = next(self._letters)
            except StopIteration:
                break
            looks += 1
            if entry is not None:
                size += size_of_entry(entry)
                self._left -= 1
                self._keep(entry, taken)
            if not looks % A_FEW:
                await asyncio.sleep(0)
        return taken

    def _keep(self, entry: LetterEntry, taken: list[LetterEntry]) -> None:
        if entry.unreadable:
            self.unreadable += 1
            return
        assert entry.file is not None
        self._sidecars.expect(entry.letter.letter_id, entry.file)
        taken.append(entry)

    async def record(self, records: Sequence[Record]) -> int:
        """See ``TakenLetters``."""
        lines: list[bytes] = []
        for first in range(0, len(records), A_FEW):
            lines += map(encode, records[first : first + A_FEW])
            await asyncio.sleep(0)
        await asyncio.to_thread(self._sidecars.append_lines, [one.letter_id for one in records], lines)
        return 0

    async def free(self, letter_ids: Sequence[str]) -> None:
        """See ``TakenLetters``: the lock is on the whole file."""


@contextlib.contextmanager
def replay_guards(paths: Sequence[Path], about: str = "") -> Iterator[None]:
    """Hold the locks of all files, or raise ``Locked`` and hold none."""
    with contextlib.ExitStack() as held:
        for path in paths:
            guard = replay_guard(path)
            held.callback(guard.release)
            if not guard.take(about or about_us()):
                raise Locked(f"{path} is being replayed or compacted by {guard.holder()}; try again when it is done")
        yield


def about_us() -> str:
    """Return how this process describes itself to others that want the letters."""
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return f"pid {os.getpid()} on {os.uname().nodename} since {since}"


def change(path: Path, selection: Selection, what: What, detail: str, by: str, damages: list[DamagedLine]) -> int:
    """Archive, restore, quarantine, note or assign the selected letters of a file; return how many."""
    changed, now = 0, time.time()
    with contextlib.closing(Sidecar(path)) as sidecar:
        records = (
            Record(entry.letter.letter_id, what, later_than(entry.state, now), detail, by=by)
            for entry in current_entries(path, selection, damages)
            if entry.state.status in CHANGEABLE[what]
        )
        while some := list(islice(records, AT_ONCE)):
            sidecar.append(some)
            changed += len(some)
    return changed


def snapshot(path: Path) -> Snapshot:
    """Read a file's states, then its size: a letter that is added in between counts as waiting."""
    known = states(path)
    return Snapshot(path, settled_size(path), known)


def plan(shots: Sequence[Snapshot], selection: Selection, limit: int) -> Plan:
    """Return the plan of a replay of these files."""
    sums = Plan()
    for shot in shots:
        for one in read_outlines(shot.path, end=shot.end):
            if isinstance(one, DamagedLine):
                sums.damages.append(one)
                continue
            state = shot.known.get(one.letter_id, OPEN)
            if not selection.takes(one, state):
                continue
            if state.status not in taken_by(selection):
                sums.over[state.status] += 1
            elif is_held_back(one, selection):
                sums.over["rejected"] += 1
            elif not limit or sums.letters < limit:
                sums.letters += 1
                sums.by_reason[one.reason] += 1
                sums.handlers[one.handler] += 1
                sums.groups[one.group] += 1
    return sums


def chosen(shots: Sequence[Snapshot], selection: Selection, takes: frozenset[Status]) -> Iterator[LetterEntry | None]:
    """The letters that a replay takes, one at a time; None for each that it passes over, which may be most."""
    every = selection.everything
    for shot in shots:
        edits = EditedEvents(shot.path)
        for one in read_letters(shot.path, end=shot.end):
            if isinstance(one, DamagedLine):
                yield None
                continue
            state = shot.known.get(one.letter.letter_id, OPEN)
            waits = state.status in takes and (every or selection.takes(one.letter, state))
            yield entry_of(one, state, shot.path, edits) if waits and not is_held_back(one.letter, selection) else None
