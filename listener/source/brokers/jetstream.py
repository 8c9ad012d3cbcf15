"""NATS JetStream as a source: one durable pull consumer, shared by all listeners of a group.

A message is acknowledged once its events are rows or letters, and extended by ``+WPI`` while it is held longer than
half of the consumer's ``ack_wait``. Acknowledgements are not confirmed: a lost one is a redelivery, which ends as a
duplicate. They are valid on any connection, so what is held outlives a session.

Each pull asks for idle heartbeats: a session ends when these stop, and the reader opens another. For a stream that each
listener reads as a whole, in order, see ``jetstream_ordered``.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import nats
from nats.aio.client import Client
from nats.js.api import AckPolicy, ConsumerConfig, ConsumerInfo, DeliverPolicy, StreamInfo
from nats.js.errors import NotFoundError

from unlost.listener.ports.source import Dropped, Loss, Opened, SourceEnded
from unlost.listener.source.brokers.address import BrokerAddress, consumer_of
from unlost.listener.source.brokers.errors import library_errors, within
from unlost.listener.source.brokers.jetstream_connection import OPEN_SECONDS, connected, stream_of
from unlost.listener.source.brokers.jetstream_session import JetStreamSession
from unlost.listener.source.brokers.overtaken import ConsumerState, removed_between
from unlost.listener.source.feed.gaps import Declare

OPTIONS = ("ack_wait", "creds", "durable", "filter", "ordered")
LOOK_SECONDS = 5.0
PENDING_PER_LISTENER = 4
"""A new consumer may have as many messages outstanding as this many listeners hold."""


@dataclass(frozen=True, slots=True)
class JetStreamOptions:
    """The settings of this source. ``ack_wait`` and those after it are used only if the consumer must be made."""

    address: BrokerAddress
    durable: str
    ack_wait: float
    start_from: Literal["oldest", "now"]
    max_events: int
    name: str


def options_of(
    address: BrokerAddress, *, group: str, lease: float, start_from: Literal["oldest", "now"], max_events: int
) -> JetStreamOptions:
    """Return the settings for this address. By default a message is redelivered after ``LEASE``."""
    durable = address.options.get("durable", consumer_of(group))
    return JetStreamOptions(
        address, durable, address.seconds("ack_wait", lease), start_from, max_events, f"{address.name}/{durable}"
    )


class JetStream:
    """A ``Source``."""

    shared = True
    partitioned = False
    resumes = True

    def __init__(
        self, options: JetStreamOptions, declare: Declare, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Make one. ``declare`` declares a gap."""
        self.name = options.name
        self._declare = declare
        self._options = options
        self._clock = clock
        self._declared = 0
        self._held: dict[str, float] = {}
        """Messages not acknowledged yet: the address of the answer, and when each was last extended."""

    @contextlib.asynccontextmanager
    async def open(self, cursor: Callable[[], Awaitable[str | None]]) -> AsyncIterator["JetStreamSession"]:  # noqa: ARG002
        """See ``Source``. The server knows what is acknowledged, so the cursor is not used."""
        session: JetStreamSession | None = None

        def ended(why: str) -> None:
            if session is not None:
                session.end(why)

        async with connected(self._options.address, self._options.durable, ended) as client:
            with library_errors(nats.errors.Error):
                async with within(OPEN_SECONDS, "opening the consumer"):
                    stream, consumer = await self._consumer(client)
                    session = JetStreamSession(client, consumer, self._held, self._clock)
                    session.opening = Opened(dropped=self._dropped(stream, consumer))
                    session.look = partial(self._look, client, _state_of(stream, consumer), session.redelivered)
                    await session.begin()
            try:
                yield session
            except asyncio.CancelledError:  # an orderly stop: peers need not wait for ack_wait
                session.abort()
                raise
            finally:
                await session.leave()

    def _dropped(self, stream: StreamInfo, consumer: ConsumerInfo) -> Dropped | None:
        """Return what the stream's limits removed before the group had read it, each gap once.

        With a filter, nobody knows how many of the removed messages would have passed it.
        """
        read = 0 if consumer.ack_floor is None else consumer.ack_floor.stream_seq
        first = stream.state.first_seq
        if not read or first <= read + 1 or consumer.config.filter_subject or self._declared == first:
            return None
        self._declared = first
        name, once = consumer.stream_name, f"{stream.created} {first}"
        return Dropped(first - read - 1, f"{name}@{read}", f"{name}@{first}", once)

    async def _look(self, client: Client, before: ConsumerState, redelivered: deque[int]) -> None:
        """Look for ever whether the stream's limits remove messages while this group lags behind."""
        manager, options = client.jsm(), self._options
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            with contextlib.suppress(SourceEnded), library_errors(nats.errors.Error):
                stream = await manager.stream_info(options.address.path)
                consumer = await manager.consumer_info(options.address.path, options.durable)
                now = _state_of(stream, consumer)
                again = sum(before.deliveries < one <= now.deliveries for one in redelivered)
                filtered = bool(consumer.config.filter_subject)
                dropped = removed_between(before, now, options.address.path, redelivered=again, filtered=filtered)
                if dropped is not None:
                    missing, after, resumed_at, once = dropped
                    self._declare(self.name, "expired", after=after, resumed_at=resumed_at, missing=missing, once=once)
                while redelivered and redelivered[0] <= now.deliveries:
                    redelivered.popleft()
                before, self._declared = now, max(self._declared, now.first)

    async def _consumer(self, client: Client) -> tuple[StreamInfo, ConsumerInfo]:
        """Return the stream and the durable consumer, which is made if it is not there."""
        options, manager = self._options, client.jsm()
        name = options.address.path
        stream = await stream_of(client, options.address)
        try:
            consumer: ConsumerInfo = await manager.consumer_info(name, options.durable)
        except NotFoundError:
            consumer = await manager.add_consumer(name, self._config())
        if wrong := _unfit(consumer, options.address.options.get("filter")):
            raise SourceEnded(Loss(f"the consumer {options.durable} of the stream {name} cannot be used: {wrong}"))
        return stream, consumer

    def _config(self) -> ConsumerConfig:
        options = self._options
        return ConsumerConfig(
            durable_name=options.durable,
            description="Made by Unlost: acknowledged once events are rows or dead letters",
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=options.ack_wait,
            deliver_policy=DeliverPolicy.ALL if options.start_from == "oldest" else DeliverPolicy.NEW,
            filter_subject=options.address.options.get("filter"),
            max_ack_pending=PENDING_PER_LISTENER * options.max_events,
        )


def _state_of(stream: StreamInfo, consumer: ConsumerInfo) -> ConsumerState:
    delivered, first = consumer.delivered, stream.state.first_seq
    passed, deliveries = (0, 0) if delivered is None else (delivered.stream_seq, delivered.consumer_seq)
    return ConsumerState(first, passed, deliveries, consumer.num_pending or 0, str(stream.created))


def _unfit(consumer: ConsumerInfo, wanted: str | None) -> str:
    """Return why this consumer would lose events, or read others than wanted."""
    config = consumer.config
    if config.deliver_subject:
        return "it is a push consumer; a pull consumer is needed"
    if config.ack_policy != AckPolicy.EXPLICIT:
        return f"its ack policy is {config.ack_policy}; it must be explicit"
    if (config.max_deliver or -1) > 0:
        return f"it drops a message after {config.max_deliver} deliveries; set max_deliver to -1"
    if config.headers_only:
        return "it delivers headers without bodies (headers_only); set headers_only to false"
    if wanted is not None and config.filter_subject != wanted:
        return f"it filters by {config.filter_subject or 'nothing'}, and SOURCE by {wanted}"
    return ""
