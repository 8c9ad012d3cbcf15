"""Publishing: many callers, one commit. All waiting events are stored in one transaction, off the event loop. Large
bodies get one transaction each, so that one is committed while another is answered and the next one is read.

A caller gets its answer only when its events are on disk. New entries then go to the tail, which serves live clients.
One commit is in progress at a time. If more events wait, the next commit starts when it ends.

Handing a lone event to the journal's thread and back costs several times as much as its commit: two wake-ups, and the
interpreter lock, which both threads need in turn. So while no commit is in progress and the disk is quick, a few events
are committed directly on the event loop. After a slow commit, the following ones go to the thread until one is quick
again. A disk that hangs therefore blocks the loop only once.
"""

import asyncio
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import partial
from queue import SimpleQueue
from typing import TypeVar

from unlost.producer.journal.port import Entry, Journal, JournalError, Placed, Written
from unlost.producer.journal.publications import Publications

MOST_WAITING = 50_000
ENOUGH = 1_024
"""Enough events for one commit. Whatever else waits goes into the next."""

QUICK = 0.01
"""Seconds. Longer commits would block the event loop too long for others, so they go to the thread."""

Done = Callable[[Sequence[Placed] | Exception], None]
"""Called once, on the event loop, with the outcomes or the error. It must not raise."""

Waiting = tuple[Publications, Done]
T = TypeVar("T")


class Overloaded(Exception):
    """More events wait to be written than the producer is willing to hold."""


class JournalFull(Overloaded):
    """Nothing is accepted until a group has read more."""


class _Owned:
    """The events that wait for one owner, by what is committed together."""

    __slots__ = ("count", "groups")

    def __init__(self) -> None:
        self.count = 0
        self.groups: OrderedDict[Hashable, list[Waiting]] = OrderedDict()


class GroupCommit:
    """Group commit in front of a journal."""

    def __init__(
        self,
        journal: Journal,
        *,
        placed: Callable[[int, Iterable[Entry]], None],
        committed: Callable[[int, float], None],
        failed: Callable[[JournalError], None],
        quick: float = QUICK,
    ) -> None:
        self._journal = journal
        self._placed = placed
        self._committed = committed
        self._failed = failed
        self._quick = quick
        self._waiting: OrderedDict[Hashable, _Owned] = OrderedDict()
        """By owner."""
        self._count = 0
        self._to_write: SimpleQueue[list[Waiting] | None] = SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None
        """Set while ``run`` runs."""
        self._writes = False
        """The thread is committing."""
        self._is_quick = False
        """The last commit was quick."""
        self._rests = asyncio.Event()
        self._rests.set()
        self.full = ""
        """Why nothing is accepted now; empty otherwise."""
        self._defect: Exception | None = None
        self._found = asyncio.Event()

    def is_full_for(self, owner: Hashable) -> bool:
        """Whether this owner is refused: if more of its events wait than there is room for those of others."""
        mine = self._waiting.get(owner)
        return (mine.count if mine else 0) >= MOST_WAITING - self._count

    async def publish(self, publications: Publications) -> Sequence[Placed]:
        """Store these events and return when they are durable. Raises ``JournalError`` or ``Overloaded``."""
        return await self.place(publications)

    def place(
        self, publications: Publications, *, together: Hashable | None = None, owner: Hashable = None
    ) -> asyncio.Future[Sequence[Placed]]:
        """Like ``publish``, but returns a future. ``Overloaded`` is raised here, not by the future.

        Publications with the same ``together`` are committed together. Owners take turns.
        """
        future: asyncio.Future[Sequence[Placed]] = asyncio.get_running_loop().create_future()
        self.submit(publications, partial(_end, future), together=together, owner=owner)
        return future

    def submit(
        self, publications: Publications, done: Done, *, together: Hashable | None = None, owner: Hashable = None
    ) -> None:
        """Like ``place``, without a future: ``done`` is called directly at the end of the commit."""
        if self.full:
            raise JournalFull(self.full)
        if self.is_full_for(owner):
            raise Overloaded(f"{self._count:,} events wait to be written; slow down")
        if self._loop is not None and not self._waiting and not self._writes:
            self._loop.call_soon(self._write_waiting)  # others of this iteration join the commit
        mine = self._waiting.get(owner)
        if mine is None:
            mine = self._waiting[owner] = _Owned()
        mine.groups.setdefault(object() if together is None else together, []).append((publications, done))
        self._count += len(publications)
        mine.count += len(publications)

    async def run(self) -> None:
        """Commit until cancelled. A commit in progress is finished first."""
        loop = asyncio.get_running_loop()
        # A thread of its own, because lagging readers can fill the shared thread pool and would delay commits.
        threading.Thread(target=self._write_for_ever, args=(loop,), name="journal-writer", daemon=True).start()
        self._loop = loop
        self._write()
        try:
            await self._found.wait()
        finally:
            self._loop = None
            try:
                await self._rests.wait()
            finally:
                self._to_write.put(None)
        if self._defect is not None:
            raise self._defect

    def _write_waiting(self) -> None:
        """Commit what waits here on the loop, or hand it to the thread."""
        if not self._is_quick or self._writes or self._loop is None or not self._waiting:
            self._write()
            return
        batch = self._take()
        started = time.monotonic()
        outcome = self._append(batch, self._journal.append_at_once)
        if outcome is None:
            self._hand_over(batch)
            return
        self._finish(batch, outcome, time.monotonic() - started)
        if self._waiting:
            self._loop.call_soon(self._write_waiting)

    def _write(self) -> None:
        """Hand what waits to the journal's thread, unless a commit is in progress."""
        if self._waiting and self._loop is not None and not self._writes:
            self._hand_over(self._take())

    def _hand_over(self, batch: list[Waiting]) -> None:
        self._writes = True
        self._rests.clear()
        self._to_write.put(batch)

    def _take(self) -> list[Waiting]:
        """The oldest publications of each owner in turn, with everything that belongs together. So of two large bodies
        one is answered, and the next body read in its place, while the other is committed. And an owner with one event
        waits for one commit, however many events of others wait."""
        batch: list[Waiting] = []
        count = 0
        while self._waiting and count < ENOUGH:
            owner, theirs = self._waiting.popitem(last=False)
            _, group = theirs.groups.popitem(last=False)
            batch += group
            taken = sum([len(publications) for publications, _ in group])
            count += taken
            if theirs.groups:
                theirs.count -= taken
                self._waiting[owner] = theirs
        self._count -= count
        return batch

    def _write_for_ever(self, loop: asyncio.AbstractEventLoop) -> None:
        while (batch := self._to_write.get()) is not None:
            started = time.monotonic()
            outcome = self._append(batch, self._journal.append)
            loop.call_soon_threadsafe(self._written, batch, outcome, time.monotonic() - started)

    def _append(self, batch: list[Waiting], append: Callable[[list[Publications], float], T]) -> T | Exception:
        try:
            return append([group for group, _ in batch], time.time())
        except Exception as error:  # noqa: BLE001  the thread's border: handled in ``_finish``
            return error

    def _written(self, batch: list[Waiting], outcome: Written | Exception, seconds: float) -> None:
        self._writes = False
        self._write()  # start the thread's next commit first, because callers get their answers only now
        if not self._writes:
            self._rests.set()
        self._finish(batch, outcome, seconds)

    def _finish(self, batch: list[Waiting], outcome: Written | Exception, seconds: float) -> None:
        self._is_quick = seconds < self._quick
        if isinstance(outcome, JournalError):
            self._failed(outcome)
            _refuse(batch, outcome)
        elif isinstance(outcome, Exception):
            self._break(batch, outcome)
        else:
            try:
                self._answer(batch, outcome, seconds)
            except Exception as defect:  # noqa: BLE001  a callback's border: raised here, it would reach nobody
                self._break(batch, defect)

    def _break(self, batch: Sequence[Waiting], defect: Exception) -> None:
        self._defect = defect
        self._found.set()
        _refuse(batch, defect)

    def _answer(self, batch: Sequence[Waiting], written: Written, seconds: float) -> None:
        self._committed(len(written.placed), seconds)
        self._placed(written.newest, written.entries)
        start = 0
        for group, done in batch:
            done(written.placed[start : start + len(group)])
            start += len(group)


def _refuse(batch: Sequence[Waiting], error: Exception) -> None:
    for _, done in batch:
        done(error)


def _end(future: asyncio.Future[Sequence[Placed]], outcome: Sequence[Placed] | Exception) -> None:
    if future.done():  # the caller has gone away
        return
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
