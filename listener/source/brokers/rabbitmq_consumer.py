"""A channel that consumes one queue or stream of RabbitMQ, and how much the server may send ahead."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping

import aiormq
from aiormq.abc import AbstractChannel, AbstractConnection, DeliveredMessage
from aiormq.exceptions import AMQPError, ChannelInvalidStateError, ChannelNotFoundEntity, ChannelPreconditionFailed
from pamqp.commands import Basic

from unlost.listener.ports.source import Loss, SourceEnded
from unlost.listener.source.brokers.errors import leave, library_errors, within, words_of

OPEN_SECONDS = 10.0
CLOSE_SECONDS = 2.0
ERRORS = (AMQPError, ChannelInvalidStateError)
STREAM_OFFSET = "x-stream-offset"
"""The argument says where a consumer of a stream begins, the header where a message stands."""
FIRST_AHEAD = 64
BYTES_AHEAD = 32 * 1024 * 1024
MESSAGE_BYTES = 512
SIZES = 1_000
"""Of so many messages the largest is remembered."""
Arguments = Mapping[str, int | str]


@contextlib.asynccontextmanager
async def connected(url: str) -> AsyncIterator[AbstractConnection]:
    """Connect to a server, until the context ends."""
    with library_errors(*ERRORS):
        async with within(OPEN_SECONDS, "connecting to RabbitMQ"):
            connection = await aiormq.connect(url)
    try:
        yield connection
    finally:
        await leave(connection.close, CLOSE_SECONDS)


async def is_stream(connection: AbstractConnection, queue: str) -> bool:
    """Whether a queue is a stream: the server refuses an offset for any other, and closes the channel."""
    channel = await connection.channel(publisher_confirms=False)
    try:
        await channel.basic_qos(prefetch_count=1)
        await channel.basic_consume(queue, _ignore, arguments={STREAM_OFFSET: "next"})
    except ChannelPreconditionFailed as error:
        if not refuses_offset(error):
            raise
        return False
    await channel.close()
    return True


def refuses_offset(error: ChannelPreconditionFailed) -> bool:
    """Whether the server refused an offset, and not, for example, a stream without a running replica."""
    return STREAM_OFFSET in str(error)


async def _ignore(message: DeliveredMessage) -> None:
    pass


class Prefetch:
    """How many messages the server may send ahead. It limits their number alone, so this follows their size. Pure.

    Belongs to the source: a session that got too much ends, and the next begins with fewer.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._largest = 0
        self._recent = 0
        self._count = 0

    def note(self, size: int) -> None:
        """Note the size of a message. One that was large is forgotten after a while."""
        self._recent = max(self._recent, size)
        self._largest = max(self._largest, size)
        self._count += 1
        if self._count == SIZES:
            self._largest, self._recent, self._count = self._recent, 0, 0

    @property
    def fitting(self) -> int:
        """How many messages as large as the largest fit."""
        return min(self._most, max(1, BYTES_AHEAD // (self._largest + MESSAGE_BYTES)))

    @property
    def first(self) -> int:
        """With how many a session begins."""
        return min(FIRST_AHEAD, self.fitting)


class RabbitConsumer:
    """Consumes on one channel. ``arguments``: those of a consumer that begins now."""

    def __init__(
        self, channel: AbstractChannel, queue: str, ahead: Prefetch, arguments: Callable[[], Arguments] = dict
    ) -> None:
        self.channel = channel
        self._queue = queue
        self._sizes = ahead
        self._arguments = arguments
        self._ahead = 0
        self._consumers = 0
        self._bytes = 0
        self._waiting: deque[DeliveredMessage] = deque()
        self.last: DeliveredMessage | None = None
        """The last message that arrived."""
        self._arrived = asyncio.Event()
        self._why = ""

    async def begin(self, connection: AbstractConnection, hosts: str) -> None:
        """Consume. The server's errors are those of the library, but for a queue that is not there."""
        connection.closing.add_done_callback(self._closed)
        self.channel.closing.add_done_callback(self._closed)
        self.channel.on_consumer_cancel_callbacks.add(self._cancelled)
        try:
            await self._consume(self._sizes.first)
        except ChannelNotFoundEntity as error:  # also raised while the leader of a queue is away
            absent = "no queue" in str(error)
            why = f"there is no queue {self._queue} on {hosts}" if absent else words_of(error)
            raise SourceEnded(Loss(why)) from None

    async def cancel(self) -> None:
        """Have the server send no more. The call waits for the queue's leader."""
        if self._consumer:
            await self.channel.basic_cancel(self._consumer)

    async def give_back(self) -> None:
        """Consume no more, and put messages that were not taken back into the queue."""
        await self.cancel()
        untaken = [one.delivery_tag or 0 for one in self._waiting]
        self.end("the listener stops")
        for tag in untaken:
            await self.channel.basic_nack(tag, requeue=True, wait=tag == untaken[-1])

    def end(self, why: str) -> None:
        """End the session: ``take`` raises. Messages that were not taken are dropped here."""
        self._why = self._why or why
        self._waiting.clear()
        self._arrived.set()

    async def take(self, most: int, size: int) -> list[DeliveredMessage]:
        """Return the next messages, at least one, within these limits."""
        while not self._waiting:
            if self._why:
                raise SourceEnded(Loss(self._why))
            self._arrived.clear()
            await self._arrived.wait()
        taken: list[DeliveredMessage] = []
        while self._waiting and (not taken or (len(taken) < most and size > 0)):
            message = self._waiting.popleft()
            taken.append(message)
            size -= len(message.body)
            self._bytes -= len(message.body)
        return taken

    async def adapt(self) -> None:
        """Adapt how many messages may be ahead to the largest so far, if that halves or doubles the number."""
        ahead = self._sizes.fitting
        if ahead >= 2 * self._ahead or 2 * ahead <= self._ahead:
            with library_errors(*ERRORS):
                async with within(OPEN_SECONDS, "consuming the queue with another prefetch count"):
                    await self._consume(ahead)

    async def _consume(self, ahead: int) -> None:
        """Consume with this prefetch count, which a consumer keeps: so another one takes its place."""
        await self.cancel()
        self._ahead, self._consumers = ahead, self._consumers + 1
        await self.channel.basic_qos(prefetch_count=ahead)
        await self.channel.basic_consume(
            self._queue, self._receive, consumer_tag=self._consumer, arguments=dict(self._arguments())
        )

    @property
    def _consumer(self) -> str:
        """The consumer's name, which counts within its channel alone."""
        return f"unlost{self._consumers}" if self._consumers else ""

    async def _receive(self, message: DeliveredMessage) -> None:
        """Keep a message until it is taken. The prefetch count limits their number; here, their size is limited."""
        if self._why:
            return
        self.last = message
        self._waiting.append(message)
        self._bytes += len(message.body)
        self._sizes.note(len(message.body))
        if self._bytes > 2 * BYTES_AHEAD and 2 * self._sizes.fitting <= self._ahead:
            self.end("messages are much larger than those before, so the server has sent too much ahead")
        self._arrived.set()

    def _closed(self, closing: "asyncio.Future[None]") -> None:
        error = None if closing.cancelled() else closing.exception()
        if isinstance(error, asyncio.CancelledError):  # so the library ends a connection on which no frame arrives
            self.end("RabbitMQ sent neither messages nor heartbeats")
        self.end(words_of(error) if error else "the connection to RabbitMQ ended")

    async def _cancelled(self, frame: Basic.Cancel) -> None:  # noqa: ARG002
        """End the session, since the server delivers no more on an open channel."""
        self.end(f"the server cancelled the consumer: the queue {self._queue} was deleted, or its leader is lost")
