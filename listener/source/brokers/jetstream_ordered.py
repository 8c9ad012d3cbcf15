"""A stream of JetStream that each listener of a group reads as a whole, in its order (``?ordered=true``).

A shared consumer deals neighbouring messages to different listeners, so none of them knows which came before. Here each
session has a consumer of its own, without acknowledgements, which the server forgets with it. Its position is the
group's cursor in PostgreSQL: the sequence number that is read next. So order per key holds as with our own stream.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, ConsumerInfo, DeliverPolicy, RetentionPolicy, StreamInfo

from unlost.listener.core.cursor import ordinal_of
from unlost.listener.core.errors import Misconfigured
from unlost.listener.ports.source import Batch, Dropped, Loss, Opened, Receipt, SourceEnded, Taken
from unlost.listener.source.brokers.address import BrokerAddress
from unlost.listener.source.brokers.errors import leave, library_errors, within
from unlost.listener.source.brokers.jetstream_connection import CLOSE_SECONDS, OPEN_SECONDS, connected, stream_of
from unlost.listener.source.brokers.jetstream_pulls import Pulls
from unlost.listener.source.brokers.jetstream_session import body_of
from unlost.listener.source.brokers.trace import traces_of
from unlost.listener.source.feed.gaps import Declare

OF_SHARED = ("ack_wait", "durable", "filter")
"""Options of a shared consumer. With a filter, nobody could say whether removed messages would have passed it."""
KEEP_SECONDS = 1.0
FORGOTTEN_SECONDS = 300.0
"""A consumer that asks for nothing for so long is forgotten by the server: its listener died, or reads nothing."""


@dataclass(frozen=True, slots=True)
class OrderedOptions:
    """The settings of this source."""

    address: BrokerAddress
    name: str
    group: str


def ordered_options_of(address: BrokerAddress, *, group: str) -> OrderedOptions:
    """Return the settings for this address."""
    if wrong := [one for one in OF_SHARED if one in address.options]:
        raise Misconfigured(
            f"SOURCE={address.name}: {' and '.join(wrong)} belong to a shared consumer, and ordered=true reads the "
            "whole stream without one"
        )
    if address.options["ordered"] != "true":
        raise Misconfigured(f"SOURCE={address.name}: ordered is true, or left out")
    return OrderedOptions(address, address.name, group)


class OrderedJetStream:
    """A ``Source``."""

    shared = False
    partitioned = False
    resumes = True

    def __init__(
        self, options: OrderedOptions, declare: Declare, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Make one. ``declare`` declares a gap."""
        self.name = options.name
        self._options = options
        self._declare = declare
        self._clock = clock

    @contextlib.asynccontextmanager
    async def open(self, cursor: Callable[[], Awaitable[str | None]]) -> AsyncIterator["OrderedSession"]:
        """See ``Source``. A group without a cursor records where it begins, and opens it again."""
        after = await cursor()
        session: OrderedSession | None = None

        def ended(why: str) -> None:
            if session is not None:
                session.end(why)

        async with connected(self._options.address, self._options.group, ended) as client:
            with library_errors(nats.errors.Error):
                async with within(OPEN_SECONDS, "opening the stream"):
                    stream = await stream_of(client, self._options.address)
                    self._check(stream, after)
                    consumer = await client.jsm().add_consumer(self._options.address.path, _config(after))
                    session = OrderedSession(self, client, consumer, self._opening(stream, after), self._clock)
                    await session.begin()
            try:
                yield session
            finally:
                await session.leave()

    def _check(self, stream: StreamInfo, after: str | None) -> None:
        """Refuse a stream that forgets what others have read, or that ends before what this group has read."""
        name = self._options.address.path
        if (kept := stream.config.retention) not in (None, RetentionPolicy.LIMITS):
            raise SourceEnded(Loss(
                f"the stream {name} forgets what its consumers have read (its retention is {kept}): "
                "leave out ordered=true"
            ))  # fmt: skip
        if after is not None and _number(after) > (end := stream.state.last_seq + 1):
            raise SourceEnded(Loss(
                f"the stream {name} ends at {end - 1}, before what this group has read, as if it was made anew. A new "
                "stream needs a new name"
            ))  # fmt: skip

    def _opening(self, stream: StreamInfo, after: str | None) -> Opened:
        first = max(1, stream.state.first_seq)
        if after is None:
            return Opened(oldest=self.cursor(first), newest=self.cursor(stream.state.last_seq + 1))
        if first <= (expected := _number(after)):
            return Opened(after)
        missing = Dropped(first - expected, after, self.cursor(first), f"{stream.created} {first}")
        return Opened(after, dropped=missing)

    async def first(self, client: Client) -> int:
        """Ask for the first message that the stream has."""
        with library_errors(nats.errors.Error):
            async with within(OPEN_SECONDS, "asking for the stream's first message"):
                return (await stream_of(client, self._options.address)).state.first_seq

    def declare(self, missing: int, after: int, resumed_at: int) -> None:
        """Declare messages that the stream's limits removed unread."""
        self._declare(
            self.name, "expired", after=self.cursor(after), resumed_at=self.cursor(resumed_at), missing=missing
        )

    def cursor(self, number: int) -> str:
        """Return a position: the sequence number that is read next."""
        return f"{self._options.address.path}@{number}"


class OrderedSession:
    """A consumer of one session."""

    def __init__(
        self,
        source: OrderedJetStream,
        client: Client,
        consumer: ConsumerInfo,
        opening: Opened,
        clock: Callable[[], float],
    ) -> None:
        self.opening = opening
        self._source = source
        self._client = client
        self._stream, self._consumer = consumer.stream_name or "", consumer.name
        self._pulls = Pulls(client, consumer, clock, lambda _message, _at: None)
        begin = opening.after if opening.dropped is None else opening.dropped.resumed_at
        self._expected = 0 if begin is None else _number(begin)
        self._deliveries = 0

    async def begin(self) -> None:
        """Request the first messages."""
        await self._pulls.begin()

    def end(self, why: str) -> None:
        """End the session: ``take`` raises once all that arrived is taken."""
        self._pulls.end(why)

    def abort(self) -> None:
        """See ``Session``."""
        self._pulls.forget()
        self.end("reading begins again")

    async def take(self, most: int, size: int) -> Taken:
        """See ``Session``."""
        taken = await self._pulls.take(most, size)
        numbers = [self._next_of(one) for one in taken]
        await self._follow(numbers)
        traces = traces_of(one.headers.items() if one.headers else None for one in taken)
        bodies = [body_of(one, self._stream) for one in taken]
        return Batch(bodies, [self._source.cursor(one + 1) for one in numbers], (), traces)

    def _next_of(self, message: Msg) -> int:
        """Return the sequence number of the next message. None may be missing between two deliveries."""
        place = message.metadata.sequence
        self._deliveries += 1
        if place.consumer != self._deliveries:
            raise SourceEnded(Loss(f"delivery {self._deliveries} of JetStream did not arrive: it is read again"))
        return place.stream

    async def _follow(self, numbers: Sequence[int]) -> None:
        """Declare a gap where the stream began after the message that was expected. Others were deleted one by one."""
        first: int | None = None
        for number in numbers:
            if self._expected and number > self._expected:
                first = await self._source.first(self._client) if first is None else first
                if (missing := min(first, number) - self._expected) > 0:
                    self._source.declare(missing, self._expected, number)
            self._expected = number + 1

    async def take_rest(self, most: int, size: int) -> Taken | None:
        """See ``Session``. Messages that were not taken are read again, after the cursor."""

    async def settled(self, receipts: Sequence[Receipt]) -> None:
        """See ``Session``. The cursor says what is settled."""

    async def give_back(self) -> None:
        """See ``Session``. All listeners read all messages."""

    async def run(self, paused: Callable[[], bool]) -> None:  # noqa: ARG002
        """See ``Session``. Notices a silent consumer."""
        try:
            while True:
                await asyncio.sleep(KEEP_SECONDS)
                await self._pulls.keep()
        except SourceEnded as error:
            self.end(error.loss.why)

    async def leave(self) -> None:
        """Delete the consumer. If that fails, the server forgets it later."""
        await leave(lambda: self._client.jsm().delete_consumer(self._stream, self._consumer), CLOSE_SECONDS)


def _config(after: str | None) -> ConsumerConfig:
    return ConsumerConfig(
        description="Made by Unlost for one session",
        ack_policy=AckPolicy.NONE,
        deliver_policy=DeliverPolicy.NEW if after is None else DeliverPolicy.BY_START_SEQUENCE,
        opt_start_seq=None if after is None else max(1, _number(after)),
        inactive_threshold=FORGOTTEN_SECONDS,
        mem_storage=True,
        num_replicas=1,
    )


def _number(cursor: str) -> int:
    return int(ordinal_of(cursor) or 0)
