"""RabbitMQ as a source: one queue, shared by all listeners of a group. For a stream see ``rabbitmq_stream``.

A message is acknowledged once its events are rows or letters. When a connection ends, messages without an
acknowledgement go back into the queue at once. An acknowledgement is valid only on its own channel. The prefetch count
limits the messages that are held.

A quorum queue replicates acknowledgements as commands. With 32 of them under way, the server keeps those that follow
until it has an answer, and drops what it keeps when the connection closes. So what is settled from the oldest message
on is one acknowledgement, and a session is closed only once the server has passed on what it kept.
"""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass

from aiormq.abc import AbstractChannel, AbstractConnection, DeliveredMessage
from aiormq.exceptions import ChannelNotFoundEntity

from unlost.listener.core.errors import Misconfigured
from unlost.listener.ports.source import Batch, Loss, Opened, Receipt, SourceEnded, Taken
from unlost.listener.source.brokers.address import BrokerAddress
from unlost.listener.source.brokers.errors import leave, library_errors, within
from unlost.listener.source.brokers.identity import with_id
from unlost.listener.source.brokers.rabbitmq_consumer import (
    CLOSE_SECONDS,
    ERRORS,
    OPEN_SECONDS,
    Prefetch,
    RabbitConsumer,
    connected,
    is_stream,
)
from unlost.listener.source.brokers.trace import traces_of

OPTIONS = ("stream", "vhost")
MOST_AHEAD = 2_000
"""How many messages may be without an acknowledgement, in memory or not taken yet."""
HEARTBEAT = 10


@dataclass(frozen=True, slots=True)
class RabbitOptions:
    """The settings of this source."""

    address: BrokerAddress
    name: str
    url: str
    ahead: int
    stream: bool
    """Whether the queue is said to be a stream."""


def options_of(address: BrokerAddress, *, max_events: int) -> RabbitOptions:
    """Return the settings for this address."""
    vhost, stream = address.options.get("vhost", ""), address.options.get("stream")
    if stream not in (None, "true"):
        raise Misconfigured(f"SOURCE={address.name}: stream is true, or left out for a queue that is no stream")
    # AMQP's addresses write the virtual host where ours have the queue; without one it is "/".
    url = f"{address.servers[0]}/{vhost}?heartbeat={HEARTBEAT}&name=unlost"
    name = f"{address.name}?vhost={vhost}" if vhost else address.name
    return RabbitOptions(address, name, url, min(max_events, MOST_AHEAD), stream == "true")


@dataclass(frozen=True, slots=True)
class Tag:
    """A receipt: a delivery tag, and the channel on which it is valid."""

    channel: AbstractChannel
    number: int


class SettledTags:
    """Which of a channel's delivery tags, 1, 2, 3 and so on, are settled. Pure."""

    def __init__(self) -> None:
        self._front = 0
        self._beyond: set[int] = set()

    def settle(self, tags: Iterable[int]) -> tuple[int, list[int]]:
        """Return the tag up to which all is settled, or 0 if that has not moved, and what is settled beyond it.

        The server refuses a tag that it has already seen. So the first is never one that was returned before.
        """
        new = {one for one in tags if one > self._front} - self._beyond
        front = 0
        while (at := self._front + 1) in new or at in self._beyond:
            if at in new:
                front = at
            self._front = at
            self._beyond.discard(at)
            new.discard(at)
        self._beyond |= new
        return front, sorted(new)


class Rabbit:
    """A ``Source``."""

    shared = True
    partitioned = False
    resumes = True

    def __init__(self, options: RabbitOptions) -> None:
        self.name = options.name
        self._options = options
        self._ahead = Prefetch(options.ahead)

    @contextlib.asynccontextmanager
    async def open(self, cursor: Callable[[], Awaitable[str | None]]) -> AsyncIterator["RabbitSession"]:  # noqa: ARG002
        """See ``Source``. The server knows what is acknowledged, so the cursor is not used."""
        async with connected(self._options.url) as connection:
            with library_errors(*ERRORS):
                async with within(OPEN_SECONDS, "subscribing to the queue"):
                    session = await self._consume(connection)
            try:
                yield session
            finally:
                await leave(session.pass_on, CLOSE_SECONDS)

    async def _consume(self, connection: AbstractConnection) -> "RabbitSession":
        options = self._options
        queue, hosts = options.address.path, ",".join(options.address.hosts)
        with contextlib.suppress(ChannelNotFoundEntity):  # said below
            if await is_stream(connection, queue):
                raise SourceEnded(Loss(
                    f"the queue {queue} is a stream, which keeps nothing for a group: write ?stream=true, and its "
                    "position is kept in PostgreSQL"
                ))  # fmt: skip
        channel = await connection.channel(publisher_confirms=False)
        consumer = RabbitConsumer(channel, queue, self._ahead)
        await consumer.begin(connection, hosts)
        return RabbitSession(consumer, queue)


class RabbitSession:
    """A channel that consumes a queue."""

    def __init__(self, consumer: RabbitConsumer, queue: str) -> None:
        self.opening = Opened()
        self._consumer = consumer
        self._channel = consumer.channel
        self._queue = queue
        self._tags = SettledTags()

    def abort(self) -> None:
        """See ``Session``."""
        self._consumer.end("reading begins again")

    async def take(self, most: int, size: int) -> Taken:
        """See ``Session``."""
        taken = await self._consumer.take(most, size)
        await self._consumer.adapt()
        receipts = [(1, Tag(self._channel, one.delivery_tag or 0)) for one in taken]
        traces = traces_of((one.header.properties.headers or {}).items() for one in taken)
        return Batch([_body(one) for one in taken], [None] * len(taken), receipts, traces)

    async def take_rest(self, most: int, size: int) -> Taken | None:
        """See ``Session``. Messages that were not taken are not acknowledged, and come again."""

    async def settled(self, receipts: Sequence[Receipt]) -> None:
        """See ``Session``. Messages of another channel are in the queue again."""
        ours = [one.number for one in receipts if isinstance(one, Tag) and one.channel is self._channel]
        front, apart = self._tags.settle(ours)
        with library_errors(*ERRORS):
            for number in apart:
                await self._channel.basic_ack(number, wait=number == apart[-1] and not front)
            if front:
                # The last is waited for until it is sent: closing the connection drops what still waits to be sent.
                await self._channel.basic_ack(front, multiple=True)

    async def give_back(self) -> None:
        """See ``Session``."""
        with library_errors(*ERRORS):
            await self._consumer.give_back()

    async def pass_on(self) -> None:
        """Let the server pass on the acknowledgements that it keeps: both calls wait for the queue's leader."""
        await self._consumer.cancel()
        await self._channel.queue_declare(self._queue, passive=True)

    async def run(self, paused: Callable[[], bool]) -> None:
        """See ``Session``. The library answers heartbeats; the server needs no others."""


def _body(message: DeliveredMessage) -> bytes:
    given = message.header.properties.message_id
    return with_id(message.body, given) if given else message.body
