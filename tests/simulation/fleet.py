"""The fleet's list in the memory of a simulated PostgreSQL: what ``letters.sql`` does, and the links to it.

What became of a letter is decided by the product's own function (``dlq/record/sidecar.py``), as in the real list.
"""

import asyncio
import copy
import itertools
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from tests.simulation.world import Process, World
from unlost.dlq.record.letter_line import decode
from unlost.dlq.record.letter_state import OPEN, WAITING, LetterState, Record, Status, after
from unlost.dlq.record.query import Selection
from unlost.dlq.store.entries import LetterEntry
from unlost.dlq.store.port import Unreachable
from unlost.listener.core.errors import Transient
from unlost.listener.store.postgres.letter_rows import Listed
from unlost.listener.store.postgres.letters import LetterTotals

T = TypeVar("T")
LEASE = 3.0
Key = tuple[str, float, str]


def key_of(record: Record) -> Key:
    """The key of a record. PostgreSQL has whole microseconds."""
    return record.letter_id, round(record.at, 6), record.what


class Fleet:
    """Letters, their states and records, leases and rows."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.loss = ""
        self.away = False
        self.lines: dict[str, bytes] = {}
        self.owners: dict[str, str] = {}
        self.states: dict[str, LetterState] = {}
        self.records: dict[Key, Record] = {}
        self.unshared: set[Key] = set()
        self.leases: dict[str, tuple[str, Process, float]] = {}
        self.rows: dict[str, tuple[int, bytes]] = {}
        """By event, the version that was stored, and its text."""
        self.accepted: list[Record] = []
        """Edits that were reported as made."""
        self._backup: dict[str, Any] = {}
        self._tokens = itertools.count(1)

    KEPT = ("lines", "owners", "states", "records", "unshared", "rows")

    def back_up(self) -> None:
        self._backup = {name: copy.copy(getattr(self, name)) for name in self.KEPT}

    def restore(self) -> None:
        """PostgreSQL is set back to the backup, and those that ask learn that rows may be lost."""
        for name, value in self._backup.items():
            setattr(self, name, copy.copy(value))
        self.loss = f"loss at {self.world.now:.3f}"
        self.leases.clear()

    def token(self) -> str:
        return f"token {next(self._tokens)}"

    # -- what statements do ---------------------------------------------------------------------

    def add(self, instance: str, letters: Sequence[Listed]) -> None:
        for one in letters:
            if self.lines.setdefault(one.letter.letter_id, one.line) is one.line:
                self.owners[one.letter.letter_id] = instance
                self.states.setdefault(one.letter.letter_id, OPEN)

    def note(self, records: Iterable[Record], *, shared: bool) -> None:
        for one in records:
            if one.letter_id not in self.lines:
                continue
            self.states[one.letter_id] = after(self.states[one.letter_id], one)
            key = key_of(one)
            if key not in self.records:
                self.records[key] = one
                self.unshared |= set() if shared else {key}
            elif shared:
                self.unshared.discard(key)

    def to_share(self, instance: str, most: int) -> list[Record]:
        mine = sorted(key for key in self.unshared if self.owners[key[0]] == instance)
        return [self.records[key] for key in mine[:most]]

    def held(self, letter_id: str, token: str) -> bool:
        """Whether another replay or edit leases this letter. A living one renews its leases."""
        other, process, since = self.leases.get(letter_id, (token, None, 0.0))
        return other != token and process is not None and (process.alive or self.world.now < since + LEASE)

    def lease(self, letter_id: str, token: str, process: Process) -> bool:
        if self.held(letter_id, token):
            return False
        self.leases[letter_id] = token, process, self.world.now
        return True

    def free(self, letter_ids: Iterable[str], token: str) -> None:
        for one in letter_ids:
            if self.leases.get(one, ("", None, 0.0))[0] == token:
                del self.leases[one]

    def is_late(self, record: Record, token: str) -> bool:
        """Whether an edit comes too late: another leases its letter, or the letter is resolved."""
        mine = self.leases.get(record.letter_id, ("", None, 0.0))[0] == token
        return record.what == "edited" and (not mine or self.states[record.letter_id].status == "resolved")

    def entry(self, letter_id: str) -> LetterEntry:
        made = [one for one in self.records.values() if one.letter_id == letter_id and one.edit is not None]
        newest = max(made, key=lambda one: (one.edit.version, one.at), default=None)
        edited = newest.edit.event if newest is not None and newest.edit is not None else None
        return LetterEntry(decode(self.lines[letter_id]), self.states[letter_id], edited=edited)


class Link:
    """The way of one process to the list. Some calls fail before they take effect, some replies are lost."""

    def __init__(self, fleet: Fleet, process: Process, flaky: float) -> None:
        self.fleet = fleet
        self._process = process
        self._flaky = flaky

    async def ask(self, work: Callable[[], T]) -> T:
        world = self.fleet.world
        await asyncio.sleep(0.001 + 0.02 * world.rng.random())
        if self.fleet.away or world.rng.random() < self._flaky:
            raise Transient("PostgreSQL does not answer")
        if self._process.state != "running":
            raise asyncio.CancelledError
        found = work()
        await asyncio.sleep(0.001 + 0.02 * world.rng.random())
        if world.rng.random() < self._flaky:
            raise Transient("the reply was lost")
        return found


class SimulatedTable:
    """What ``Shipping`` uses of ``LetterTable``."""

    def __init__(self, link: Link) -> None:
        self._ask, self._fleet = link.ask, link.fleet

    async def last_loss(self) -> str:
        return await self._ask(lambda: self._fleet.loss)

    async def sums(self) -> LetterTotals:
        return await self._ask(LetterTotals)

    async def absent(self, letter_ids: Sequence[str]) -> set[str]:
        return await self._ask(lambda: set(letter_ids) - self._fleet.lines.keys())

    async def add(self, instance: str, letters: Sequence[Listed]) -> None:
        await self._ask(lambda: self._fleet.add(instance, letters))

    async def note(self, records: Sequence[Record], *, shared: bool) -> int:
        await self._ask(lambda: self._fleet.note(records, shared=shared))
        return len(records)

    async def to_share(self, instance: str, most: int) -> list[Record]:
        return await self._ask(lambda: self._fleet.to_share(instance, most))

    async def shared(self, records: Sequence[Record]) -> None:
        keys = set(map(key_of, records))
        await self._ask(lambda: self._fleet.unshared.difference_update(keys))


class SimulatedList:
    """What edits and replays use of ``LetterStore``."""

    def __init__(self, link: Link, process: Process) -> None:
        self._link, self._process = link, process

    async def history(self, letter_ids: Sequence[str]) -> dict[str, list[Record]]:
        records = await _reached(self._link.ask(lambda: list(self._link.fleet.records.values())))
        return {
            letter_id: sorted((one for one in records if one.letter_id == letter_id), key=lambda one: one.at)
            for letter_id in letter_ids
        }

    @asynccontextmanager
    async def replaying(
        self, selection: Selection, _limit: int, _about: str, takes: frozenset[Status] | None = None
    ) -> AsyncIterator["SimulatedTaken"]:
        taken = SimulatedTaken(self._link, self._process, selection, takes or WAITING)
        try:
            yield taken
        finally:
            self._link.fleet.free(list(self._link.fleet.leases), taken.token)


class SimulatedTaken:
    """``TakenLetters``: each letter is leased, and read only then."""

    def __init__(self, link: Link, process: Process, selection: Selection, takes: frozenset[Status]) -> None:
        self.elsewhere = self.unreadable = 0
        self._link, self._process, self._selection, self._takes = link, process, selection, takes
        self._fleet = link.fleet
        self.token = self._fleet.token()
        self._place = ""

    async def take(self, most: int) -> Sequence[LetterEntry]:
        return await _reached(self._link.ask(lambda: self._taken(most)))

    def _taken(self, most: int) -> list[LetterEntry]:
        found: list[LetterEntry] = []
        for letter_id in sorted(one for one in self._fleet.lines if one > self._place):
            entry = self._fleet.entry(letter_id)
            if len(found) == most:
                break
            self._place = letter_id
            if entry.state.status not in self._takes or not self._selection.takes(entry.letter, entry.state):
                continue
            if self._fleet.lease(letter_id, self.token, self._process):
                found.append(entry)
            else:
                self.elsewhere += 1
        return found

    async def record(self, records: Sequence[Record]) -> int:
        return await _reached(self._link.ask(lambda: self._recorded(records)))

    def _recorded(self, records: Sequence[Record]) -> int:
        made = [one for one in records if not self._fleet.is_late(one, self.token)]
        self._fleet.note(made, shared=False)
        self._fleet.free([one.letter_id for one in records], self.token)
        self._fleet.accepted += [one for one in made if one.what == "edited"]
        return len(records) - len(made)

    async def free(self, letter_ids: Sequence[str]) -> None:
        await _reached(self._link.ask(lambda: self._fleet.free(letter_ids, self.token)))


async def _reached(call: Any) -> Any:
    try:
        return await call
    except Transient as error:
        raise Unreachable(str(error)) from error
