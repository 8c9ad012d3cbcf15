"""A stream of RabbitMQ as a source: each listener of a group reads all of it.

A stream removes nothing that was read, and its acknowledgements only let the server send more. So the position is the
group's cursor in PostgreSQL: the offset that is read next. A group without one begins where its first listener does,
and records that with the first message, before any event of it is processed.

Numbers may be missing between two messages for two reasons: retention removed them, or the server uses some itself. So
the stream is asked where it begins, before a gap is declared.

A server that is asked for an offset beyond the end sends nothing until the stream has grown that far. So a session
first asks for the last message that was read: a stream has at least that, unless it was made anew.
"""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from aiormq.abc import AbstractConnection, DeliveredMessage
from aiormq.exceptions import ChannelPreconditionFailed

from unlost.listener.core.cursor import ordinal_of
from unlost.listener.ports.cursors import GroupCursors
from unlost.listener.ports.source import Batch, Loss, Opened, Receipt, SourceEnded, Taken
from unlost.listener.source.brokers.errors import leave, library_errors, within
from unlost.listener.source.brokers.identity import with_id
from unlost.listener.source.brokers.rabbitmq import RabbitOptions
from unlost.listener.source.brokers.rabbitmq_consumer import (
    CLOSE_SECONDS,
    ERRORS,
    OPEN_SECONDS,
    STREAM_OFFSET,
    Arguments,
    Prefetch,
    RabbitConsumer,
    connected,
    refuses_offset,
)
from unlost.listener.source.feed.gaps import Declare

ANSWER_SECONDS = 5.0
"""A server sends a message that it has within milliseconds."""


@dataclass(frozen=True, slots=True)
class ReadingGroup:
    """The group that reads the stream, and where it begins if it has no cursor."""

    cursors: GroupCursors
    name: str
    start_from: Literal["oldest", "now"]


class RabbitStream:
    """A ``Source``."""

    shared = False
    partitioned = False
    resumes = True

    def __init__(self, options: RabbitOptions, group: ReadingGroup, declare: Declare) -> None:
        """Make one. ``declare`` declares a gap."""
        self.name = options.name
        self._options = options
        self.ahead = Prefetch(options.ahead)
        """How many messages the server may send ahead."""
        self._group = group
        self._declare = declare
        self._begun: int | None = None
        """The first offset that came here. It may not be recorded yet: PostgreSQL may have been away."""

    @contextlib.asynccontextmanager
    async def open(self, cursor: Callable[[], Awaitable[str | None]]) -> AsyncIterator["RabbitStreamSession"]:
        """See ``Source``."""
        after = await cursor()
        expected = self._begun if after is None else _offset(after)
        async with connected(self._options.url) as connection:
            session = RabbitStreamSession(self, connection, expected, recorded=after is not None)
            session.opening = Opened(after)
            with library_errors(*ERRORS):
                async with within(OPEN_SECONDS, "subscribing to the stream"):
                    await session.begin()
            yield session

    @property
    def options(self) -> RabbitOptions:
        """Its settings."""
        return self._options

    @property
    def beginning(self) -> str:
        """Where a group without a cursor begins, in the server's words."""
        return "first" if self._group.start_from == "oldest" else "next"

    async def record(self, first: int) -> None:
        """Record that the group begins with this offset; ``SourceEnded`` if a peer has recorded another one."""
        self._begun = first
        group = self._group
        recorded = _offset(await group.cursors.start(self.name, group.name, self.cursor(first)))
        if recorded != first:
            raise SourceEnded(Loss(f"the group begins at offset {recorded}, not {first}: reading begins there"))

    def declare(self, missing: int, after: int, resumed_at: int) -> None:
        """Declare messages that retention removed unread."""
        self._declare(
            self.name, "expired", after=self.cursor(after), resumed_at=self.cursor(resumed_at), missing=missing
        )

    def cursor(self, offset: int) -> str:
        """Return a position: the offset that is read next."""
        return f"{self._options.address.path}@{offset}"


class RabbitStreamSession:
    """A channel that consumes a stream."""

    def __init__(
        self, source: RabbitStream, connection: AbstractConnection, expected: int | None, *, recorded: bool
    ) -> None:
        """``expected``: the offset to begin with. ``recorded``: whether the group has a cursor."""
        self.opening = Opened()
        self._source = source
        self._queue = source.options.address.path
        self._connection = connection
        self._expected = expected
        self._recorded = recorded
        self._consumer: RabbitConsumer

    async def begin(self) -> None:
        """Consume from the offset that is expected."""
        options = self._source.options
        channel = await self._connection.channel(publisher_confirms=False)
        self._consumer = RabbitConsumer(channel, self._queue, self._source.ahead, self._arguments)
        try:
            await self._consumer.begin(self._connection, ",".join(options.address.hosts))
        except ChannelPreconditionFailed as error:
            if not refuses_offset(error):
                raise
            raise SourceEnded(
                Loss(f"the queue {self._queue} is no stream, so leave out stream=true: {error}")
            ) from None
        if self._recorded and self._expected:
            await self._check(self._expected - 1)

    async def _check(self, last: int) -> None:
        """Refuse a stream that does not reach to the last offset that was read."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._first_from(last)
        except TimeoutError:
            raise self._made_anew(f"it has sent nothing from offset {last} on") from None

    def _made_anew(self, what: str) -> SourceEnded:
        return SourceEnded(Loss(
            f"the stream {self._queue} ends before what this group has read, as if it was made anew: {what}. A new "
            "stream needs a new name"
        ))  # fmt: skip

    def _arguments(self) -> Arguments:
        if (last := self._consumer.last) is not None:  # another consumer takes the place of the one before
            return {STREAM_OFFSET: _offset_of(last) + 1}
        return {STREAM_OFFSET: self._source.beginning if self._expected is None else self._expected}

    def abort(self) -> None:
        """See ``Session``."""
        self._consumer.end("reading begins again")

    async def take(self, most: int, size: int) -> Taken:
        """See ``Session``."""
        taken = await self._consumer.take(most, size)
        offsets = [_offset_of(one) for one in taken]
        for offset in offsets:
            await self._follow(offset)
        with library_errors(*ERRORS):  # lets the server send more
            await self._consumer.channel.basic_ack(taken[-1].delivery_tag or 0, multiple=True)
        await self._consumer.adapt()
        bodies = [self._body(one, offset) for one, offset in zip(taken, offsets, strict=True)]
        return Batch(bodies, [self._source.cursor(one + 1) for one in offsets])

    async def _follow(self, offset: int) -> None:
        """Record where the group begins, declare what is missing, and refuse what is not this stream."""
        if self._expected is None:
            self._expected = offset
        if not self._recorded:
            await self._source.record(self._expected)
            self._recorded = True
        if offset < self._expected:
            raise self._made_anew(f"it has sent offset {offset} in place of {self._expected}")
        if offset > self._expected:
            await self._look(self._expected, offset)
        self._expected = offset + 1

    async def _look(self, expected: int, found: int) -> None:
        """Declare a gap if the stream begins after the offset that was expected."""
        with library_errors(*ERRORS):
            async with within(OPEN_SECONDS, "asking for the stream's first message"):
                missing = min(await self._first_from("first"), found) - expected
        if missing > 0:
            self._source.declare(missing, expected, found)

    async def _first_from(self, offset: int | str) -> int:
        """Return the offset of the first message from here on. It is asked for on a channel for that alone."""
        first: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        async def found(message: DeliveredMessage) -> None:
            if not first.done():
                first.set_result(_offset_of(message))

        channel = await self._connection.channel(publisher_confirms=False)
        await channel.basic_qos(prefetch_count=1)
        await channel.basic_consume(self._queue, found, arguments={STREAM_OFFSET: offset})
        try:
            return await first
        finally:
            await leave(channel.close, CLOSE_SECONDS)

    async def take_rest(self, most: int, size: int) -> Taken | None:
        """See ``Session``. Messages that were not taken are read again, after the cursor."""

    async def settled(self, receipts: Sequence[Receipt]) -> None:
        """See ``Session``. The cursor says what is settled."""

    async def give_back(self) -> None:
        """See ``Session``. All listeners read all messages."""

    async def run(self, paused: Callable[[], bool]) -> None:
        """See ``Session``. The library answers heartbeats; the server needs no others."""

    def _body(self, message: DeliveredMessage, offset: int) -> bytes:
        given = message.header.properties.message_id
        return with_id(message.body, given or self._id(message.body, offset))

    def _id(self, body: bytes, offset: int) -> str:
        """Make an id of the message's place and content: a stream that was made anew reuses offsets."""
        return f"{self._queue}.{offset}.{hashlib.sha256(body).hexdigest()[:16]}"


def _offset(cursor: str) -> int:
    return int(ordinal_of(cursor) or 0)


def _offset_of(message: DeliveredMessage) -> int:
    offset = (message.header.properties.headers or {}).get(STREAM_OFFSET)
    if not isinstance(offset, int):
        raise SourceEnded(Loss("the server sent a message of a stream without its offset"))
    return offset
