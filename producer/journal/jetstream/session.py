"""The stream as one producer knows it: its history, checked whenever the stream may have changed.

Entries up to ``before`` were taken by retention. The last of them stays in the stream: it says in which timeline it was
written, and the bytes of all bodies up to its own.
"""

import asyncio
import time

from unlost.producer.journal.jetstream.connection import JetStreamConnection
from unlost.producer.journal.jetstream.history import JetStreamHistory, Newest, base_of, timelines_of
from unlost.producer.journal.jetstream.messages import mark_in_text
from unlost.producer.journal.jetstream.reading import EntryReader
from unlost.producer.journal.jetstream.state import State, StateKept, within
from unlost.producer.journal.jetstream.streams import StreamInfo, check_sync, info_of, prepared
from unlost.producer.journal.moves import refuse_marked
from unlost.producer.journal.nats_address import JetStreamAddress
from unlost.producer.journal.port import HistoryLost


class JournalSession:
    """See the module. ``lock`` must be held by whoever changes the history."""

    def __init__(self, address: JetStreamAddress) -> None:
        self.address = address
        self.connection = JetStreamConnection(address, "unlost producer")
        self.reading = JetStreamConnection(address, "unlost producer, reading")
        self.following = JetStreamConnection(address, "unlost producer, following")
        self.reader = EntryReader(self.connection, address.stream)
        self.many = EntryReader(self.reading, address.stream)
        self.lock = asyncio.Lock()
        self.doubts = False
        """A call has failed, so the next entry begins a timeline."""
        self.identity = ""
        self.state: StateKept
        self.history: JetStreamHistory
        self.before = self.total_before = 0
        """The number up to which entries are gone, and the bytes of their bodies."""

    async def open(self, largest_body: int) -> None:
        """Make or check the streams, and learn their history."""
        await check_sync(self.address)
        info = await prepared(self.connection, self.address, largest_body)
        first, last = info.state.first_seq, info.state.last_seq
        self.identity = info.identity
        self.state = StateKept(self.connection, self.address.stream, self.identity)
        kept = await self.state.change(lambda state: within(state, last))
        _, oldest = await self.reader.next(1)
        known = timelines_of(base_of(self.identity, first), kept.copied, oldest, await self.reader.beginnings(1))
        self.history = JetStreamHistory(self.identity, known, await self._newest(last, 0), time.time())
        await self.learn_before(kept, info)

    async def _newest(self, number: int, total: int) -> Newest:
        """``total``: if the entry cannot be read."""
        one = await self.reader.one(number) if number else None
        return Newest(number, total, "") if one is None else Newest(number, one.total, one.mark)

    async def learn_before(self, state: State, info: StreamInfo) -> None:
        """Learn how far retention is: as the state says, unless the stream has even less."""
        self.before, self.total_before = state.dropped, state.total
        if info.state.first_seq - 1 > state.dropped:
            _, oldest = await self.reader.next(1)
            self.before = info.state.first_seq - 1
            self.total_before = self.history.newest.total if oldest is None else oldest.total - len(oldest.entry.body)

    @property
    def held(self) -> int:
        """Total bytes of all bodies that can be read."""
        return max(0, self.history.newest.total - self.total_before)

    async def learn(self) -> StreamInfo:
        """Learn what others have stored. Raises ``HistoryLost`` if the stream does not continue what was known."""
        history = self.history
        newest = history.newest
        info, found = await asyncio.gather(
            info_of(self.connection, self.address.stream), self.reader.message({"seq": max(1, newest.number)})
        )
        refuse_marked(self.address.shown, info.mark)
        last = info.state.last_seq
        if info.identity != self.identity or last < newest.number:
            raise self._lost
        if newest.mark and found is not None and mark_in_text(found.hdrs) != newest.mark:
            raise self._lost
        if last > newest.number:
            beginnings, end = await asyncio.gather(
                self.reader.beginnings(newest.number + 1), self._newest(last, newest.total)
            )
            begun = [one.timeline for one in beginnings if one.timeline.first <= last]
            history.learned(begun, end, time.time())
        return info

    async def settle_doubt(self) -> None:
        """After a call that failed, check the history, and begin a timeline."""
        if self.doubts:
            await self.learn()
            self.history.begin(time.time())
            self.doubts = False

    async def current(self) -> tuple[StreamInfo, State]:
        """Learn everything anew."""
        info, state = await asyncio.gather(self.learn(), self.state.read())
        await self.learn_before(state, info)
        return info, state

    @property
    def _lost(self) -> HistoryLost:
        return HistoryLost(
            f"the journal in JetStream at {self.address.shown} does not continue what this producer has read: the "
            "stream was restored from a backup, or made anew; start the producer again"
        )

    async def close(self) -> None:
        """Leave the servers."""
        for one in (self.connection, self.reading, self.following):
            await one.close()
