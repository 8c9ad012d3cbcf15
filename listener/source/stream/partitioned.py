"""Our own stream in partitions: each listener of a group is sent its share of the events.

Reading begins at the group's cursor. Each partition has a cursor beside it, up to which that partition is settled. The
smallest of them is the group's next cursor. Members change, and partitions with them: the session then ends, and the
next begins with others. Claims decide about events that two listeners have meanwhile.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass

from unlost.listener.core.errors import Permanent, Transient
from unlost.listener.core.oversized import Oversized
from unlost.listener.core.store_mark import StoreMark
from unlost.listener.core.watermark import Position, Watermark, settle
from unlost.listener.ports.cursors import GroupCursors
from unlost.listener.ports.source import Batch, Loss, Opened, Receipt, SessionOver, SourceEnded, Taken
from unlost.listener.source.feed.gaps import Declare
from unlost.listener.source.stream.handshake import Handshake, handshake_of, with_cursor
from unlost.listener.source.stream.partitions import (
    COUNT,
    Arrivals,
    Arrived,
    PartitionShare,
    further,
    is_behind,
    row_of,
    settled_by_all,
    text_before,
    with_partitions,
)
from unlost.listener.source.stream.stream import ReportsCursors, StreamOptions, StreamSession, StreamSource
from unlost.listener.source.websocket.connection import Open
from unlost.listener.source.websocket.link import WebSocketLink, linked

LOOK_SECONDS = 1.0
LEAVE_SECONDS = 2.0
Members = Callable[[], tuple[str, Collection[str]]]
"""Returns this listener's name in the membership, and those of the others that work."""


@dataclass(frozen=True, slots=True)
class GroupProgress:
    """Where a group's cursors are kept, the store in which everything before them is settled, and its members."""

    cursors: GroupCursors
    group: str
    store: Callable[[], StoreMark | None]
    members: Members


class PartitionedStream(StreamSource):
    """A ``Source``. Its partitions are of events' texts, so it keeps no order of keys."""

    shared = True
    partitioned = False

    def __init__(
        self,
        options: StreamOptions,
        progress: GroupProgress,
        *,
        declare: Declare,
        open_connection: Open | None = None,
        reports: ReportsCursors | None = None,
    ) -> None:
        super().__init__(options, declare=declare, open_connection=open_connection, reports=reports)
        self.resumes = True
        self.progress = progress
        """Where it is kept how far the group has got."""
        self._share = PartitionShare()

    @contextlib.asynccontextmanager
    async def open(self, cursor: Callable[[], Awaitable[str | None]]) -> AsyncIterator["PartitionSession"]:
        """See ``Source``."""
        after = await self._after(cursor)
        self._share.update(*self.progress.members())
        partitions = self._share.partitions
        url = with_partitions(with_cursor(self._options.url, after), partitions)
        async with linked(self._open_connection, url, self._options.websocket) as link:
            handshake = handshake_of(link.response.headers) if link.response else Handshake()
            if not handshake.is_ours or not handshake.partitions:
                raise SourceEnded(Loss(
                    "the source does not send partitions: update the producer, or set this listener's PARTITIONS to off"
                ))  # fmt: skip
            self._check_size(handshake)
            session = PartitionSession(
                link, self._opening(after, handshake), self._reports, source=self.name, partitions=partitions,
                share=self._share, progress=self.progress,
            )  # fmt: skip
            try:
                yield session
            finally:
                await session.leave()

    async def _after(self, cursor: Callable[[], Awaitable[str | None]]) -> str | None:
        """Return the group's cursor, or where a gap has just ended, if that is further."""
        asked, progress = await cursor(), self.progress
        return further(await progress.cursors.read(self.name, progress.group), asked)


class PartitionSession(StreamSession):
    """An open stream of some partitions."""

    def __init__(
        self,
        link: WebSocketLink,
        opening: Opened,
        reports: ReportsCursors | None,
        *,
        source: str,
        partitions: frozenset[int],
        share: PartitionShare,
        progress: GroupProgress,
    ) -> None:
        super().__init__(link, opening, reports, ours=True)
        self.abort = self._abort
        self._source = source
        self.partitions = partitions
        """The partitions that it is sent."""
        self._share = share
        self._progress = progress
        self._arrivals = Arrivals(partitions)
        self._waiting: list[Arrived] = []
        """Events for which there was no room yet."""
        self._watermarks = {partition: Watermark() for partition in partitions}
        self._covered: str | None = None
        """Everything up to here has been taken."""
        self._over = False

    def _abort(self) -> None:
        """See ``Session``. From here on nothing that is settled moves a cursor."""
        self._watermarks.clear()
        self._link.abort()

    async def take(self, most: int, size: int) -> Taken:
        """See ``Session``."""
        while True:
            if self._waiting:
                return self._next(most)
            try:
                messages = await self._link.take(most, size)
            except SourceEnded as error:
                if self._over:
                    raise SessionOver(Loss("this listener's partitions have changed")) from error
                raise
            if isinstance(messages, Oversized):
                raise SourceEnded(Loss("the source sent a message that is larger than any event may be"))
            self._waiting = self._arrivals.read(messages)
            if not self._waiting:
                self._covered = self._arrivals.cursor

    def _next(self, most: int) -> Batch:
        some, self._waiting = self._waiting[:most], self._waiting[most:]
        bodies: list[bytes] = []
        receipts: list[tuple[int, Receipt]] = []
        grouped: dict[int, list[Arrived]] = {}
        for one in some:
            grouped.setdefault(one.partition, []).append(one)
        for partition, events in grouped.items():
            bodies += [one.body for one in events]
            watermark = self._watermarks.get(partition) or Watermark()  # of an aborted session
            receipts.append((len(events), watermark.open(events[-1].cursor)))
        if not self._waiting:
            self._covered = self._arrivals.cursor
        return Batch(bodies, [None] * len(bodies), receipts)

    async def take_rest(self, most: int, size: int) -> Taken | None:
        """See ``Session``. What was not taken is read again."""

    async def settled(self, receipts: Sequence[Receipt]) -> None:
        """See ``Session``."""
        settle([one for one in receipts if isinstance(one, Position)])

    async def give_back(self) -> None:
        """See ``Session``. Others read on from the group's cursor."""

    async def run(self, paused: Callable[[], bool]) -> None:
        """See ``Session``. Saves how far partitions are settled, and ends the session once others are to be read."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(super().run(paused), name="stream")
            tasks.create_task(self._look_for_ever(), name="partitions")

    async def _look_for_ever(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            with contextlib.suppress(Transient, Permanent):  # without PostgreSQL nothing is saved, and no look counts
                await self._look()
            self._share.update(*self._progress.members())
            if self._share.partitions != self.partitions:
                self._over = True
                self._link.abort()
                return

    async def leave(self) -> None:
        """Save what is settled, once more. The next session may begin further, and others need not wait."""
        with contextlib.suppress(TimeoutError, Transient, Permanent):
            async with asyncio.timeout(LEAVE_SECONDS):
                await self.save()

    async def _look(self) -> None:
        """Save what is settled, and see which partitions stand still."""
        rows, names = await self.save(), _rows(self._source)
        group = rows.get(self._source)
        if (covered := self._covered) is not None:
            reached = {partition: self._reached(rows.get(name), group) for partition, name in enumerate(names)}
            self._share.look({one: row for one, row in reached.items() if is_behind(row, covered)})

    def _reached(self, row: str | None, group: str | None) -> str | None:
        """Return up to where a partition is settled, by its row and by the group's cursor."""
        return further(group, row) if row is not None and text_before(row) in self._arrivals.stems else group

    async def save(self) -> dict[str, str]:
        """Save how far these partitions are settled, and move the group's cursor. Return the cursors as they are then.

        Nothing moves once the session is aborted: PostgreSQL may have lost what was settled.
        """
        where, names = self._progress, _rows(self._source)
        rows = dict(await where.cursors.read_all([self._source, *names], where.group))
        for partition in self.partitions:
            await self._save_one(partition, rows)
        moved = settled_by_all(rows.get(self._source), [rows.get(name) for name in names], self._arrivals.stems)
        if moved is not None and self._watermarks:
            await self._advance(self._source, moved)
        return rows

    async def _save_one(self, partition: int, rows: dict[str, str]) -> None:
        watermark, name = self._watermarks.get(partition), row_of(self._source, partition)
        if watermark is None:
            return
        cursor = watermark.cursor if watermark.waiting else further(watermark.cursor, self._covered)
        if cursor is None:
            return
        if is_behind(rows.get(name), cursor):
            if (stored := await self._advance(name, cursor)) is not None:
                rows[name] = stored
        elif is_behind(cursor, rows[name]):
            self._share.outrun(partition)

    async def _advance(self, name: str, cursor: str) -> str | None:
        where = self._progress
        stored = await where.cursors.advance(name, where.group, cursor, where.store())
        if stored is None or name == self._source or text_before(stored) in self._arrivals.stems:
            return stored
        # A row of a history that is not this one, so the group's cursor was set back.
        return await where.cursors.reset(name, where.group, stored, cursor)


def _rows(source: str) -> list[str]:
    return [row_of(source, partition) for partition in range(COUNT)]
