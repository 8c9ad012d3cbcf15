"""NATS JetStream as a source: one durable pull consumer, shared by all listeners of a group.

A message is acknowledged once its events are rows or letters, and extended by ``+WPI`` while it is held longer than
half of the consumer's ``ack_wait``. Acknowledgements are not confirmed: a lost one is a redelivery, which ends as a
duplicate. They are valid on any connection, so what is held outlives a session.

The library never reconnects by itself, since a pull may stay dead after a server's restart. Each pull asks for idle
heartbeats: a session ends when these stop, and the reader opens another.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import msgspec
import nats
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js.api import AckPolicy, ConsumerConfig, ConsumerInfo, DeliverPolicy, StreamInfo
from nats.js.errors import NotFoundError

from unlost.listener.ports.source import Batch, Dropped, Loss, Opening, Receipt, SourceEnded, Taken
from unlost.listener.source.brokers.address import BrokerAddress
from unlost.listener.source.brokers.errors import leave, library_errors, within
from unlost.listener.source.brokers.identity import with_id
from unlost.listener.source.brokers.overtaken import Look, redelivery, removed_between
from unlost.listener.source.brokers.trace import traces_of
from unlost.listener.source.feed.gaps import Declare
from unlost.ops.kit.telemetry.printable import printable

OPTIONS = ("ack_wait", "creds", "durable", "filter")
ID_HEADER = "Nats-Msg-Id"
AHEAD = 4096
"""The number of messages requested ahead of the reader, so that it need not wait for the network."""
BYTES_AHEAD = 16 * 1024 * 1024
MOST_BYTES_AHEAD = 128 * 1024 * 1024
"""Twice the largest message that NATS allows."""
OPEN_SECONDS = 10.0
CLOSE_SECONDS = 2.0
PULL_SECONDS = 30.0
LOOK_SECONDS = 5.0
MOST_REDELIVERED = 100_000
"""How many redeliveries between two looks are counted."""
HEARTBEAT = 2.0
SILENCE = 3 * HEARTBEAT
PENDING_PER_LISTENER = 4
"""A new consumer may have as many messages outstanding as this many listeners hold."""
ACK, NAK, IN_PROGRESS = b"+ACK", b"-NAK", b"+WPI"


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
    durable = address.options.get("durable", f"unlost-{group}")
    return JetStreamOptions(
        address, durable, address.seconds("ack_wait", lease), start_from, max_events, f"{address.name}/{durable}"
    )


class JetStream:
    """A ``Source``."""

    shared = True
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

        async def closed() -> None:
            if session is not None:
                session.end("the connection to NATS ended")

        with library_errors(nats.errors.Error):
            async with within(OPEN_SECONDS, "connecting to NATS"):
                client = await self._connect(closed)
        try:
            with library_errors(nats.errors.Error):
                async with within(OPEN_SECONDS, "opening the consumer"):
                    stream, consumer = await self._consumer(client)
                    session = JetStreamSession(client, consumer, self._held, self._clock)
                    session.opening = Opening(dropped=self._dropped(stream, consumer))
                    session.look = partial(self._look, client, _look_at(stream, consumer), session.redelivered)
                    await session.begin()
            try:
                yield session
            except asyncio.CancelledError:  # an orderly stop: peers need not wait for ack_wait
                session.abort()
                raise
            finally:
                await session.leave()
        finally:
            await leave(client.close, CLOSE_SECONDS)

    async def _connect(self, closed: Callable[[], Awaitable[None]]) -> Client:
        async def ignore(error: Exception) -> None:  # the library would log it; the end is noticed anyway
            pass

        options, client = self._options.address, Client()
        try:
            await client.connect(
                options.servers, name=f"unlost {self._options.durable}", allow_reconnect=False, connect_timeout=2,
                ping_interval=10, max_outstanding_pings=2, error_cb=ignore, closed_cb=closed, disconnected_cb=closed,
                user_credentials=options.options.get("creds"),
            )  # fmt: skip
        except BaseException:
            await leave(client.close, CLOSE_SECONDS)
            raise
        return client

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

    async def _look(self, client: Client, before: Look, redelivered: deque[int]) -> None:
        """Look for ever whether the stream's limits remove messages while this group lags behind."""
        manager, options = client.jsm(), self._options
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            with contextlib.suppress(SourceEnded), library_errors(nats.errors.Error):
                stream = await manager.stream_info(options.address.path)
                consumer = await manager.consumer_info(options.address.path, options.durable)
                now = _look_at(stream, consumer)
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
        try:
            stream = await manager.stream_info(name)
        except NotFoundError:
            raise SourceEnded(Loss(f"there is no stream {name} on {','.join(options.address.hosts)}")) from None
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


def _look_at(stream: StreamInfo, consumer: ConsumerInfo) -> Look:
    delivered, first = consumer.delivered, stream.state.first_seq
    passed, deliveries = (0, 0) if delivered is None else (delivered.stream_seq, delivered.consumer_seq)
    return Look(first, passed, deliveries, consumer.num_pending or 0, str(stream.created))


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


class JetStreamSession:
    """An open consumer."""

    def __init__(
        self,
        client: Client,
        consumer: ConsumerInfo,
        held: dict[str, float],
        clock: Callable[[], float],
    ) -> None:
        self.opening = Opening()
        self._client = client
        self._pull_from = f"$JS.API.CONSUMER.MSG.NEXT.{consumer.stream_name}.{consumer.name}"
        self._stream = consumer.stream_name
        self._ack_wait = min([consumer.config.ack_wait or 30.0, *(consumer.config.backoff or ())])
        self._held = held
        self._clock = clock
        self._inbox = client.new_inbox()
        self._subscription: Subscription
        self._waiting: deque[Msg] = deque()
        self._asked = 0
        self._most_bytes = BYTES_AHEAD
        self._heard_at = clock()
        self._arrived = asyncio.Event()
        self._why = ""
        self._gives_back = False
        self.look: Callable[[], Coroutine[None, None, None]] | None = None
        self.redelivered: deque[int] = deque(maxlen=MOST_REDELIVERED)
        """The numbers of recent deliveries that were not the first of their message."""

    async def begin(self) -> None:
        """Subscribe, and request the first messages."""
        # No limits of the library: it would drop what exceeds them. The requests bound what arrives.
        self._subscription = await self._client.subscribe(
            self._inbox, cb=self._receive, pending_msgs_limit=0, pending_bytes_limit=0
        )
        await self._pull()

    def end(self, why: str) -> None:
        """End the session: ``take`` raises once all that arrived is taken."""
        self._why = self._why or why
        self._arrived.set()

    async def give_back(self) -> None:
        """See ``Session``. The server redelivers these messages now, not only after ``ack_wait``."""
        self.end("the listener stops")
        with library_errors(nats.errors.Error):
            await self._subscription.drain()  # type: ignore[no-untyped-call]  # the library says no types
        untaken = [one.reply for one in self._waiting]
        self._waiting.clear()
        await self._answer(untaken, NAK)

    def abort(self) -> None:
        """See ``Session``. Held messages are not acknowledged: the server sends them again."""
        self._waiting.clear()
        self._gives_back = True
        self.end("reading begins again")

    async def take(self, most: int, size: int) -> Taken:
        """See ``Session``."""
        while not self._waiting:
            if self._why:
                raise SourceEnded(Loss(self._why))
            self._arrived.clear()
            await self._pull()
            await self._arrived.wait()
        taken: list[Msg] = []
        while self._waiting and (not taken or (len(taken) < most and size > 0)):
            message = self._waiting.popleft()
            taken.append(message)
            size -= len(message.data)
        await self._pull()
        traces = traces_of(one.headers.items() if one.headers else None for one in taken)
        return Batch([self._body(one) for one in taken], [None] * len(taken), [(1, one.reply) for one in taken], traces)

    async def take_rest(self, most: int, size: int) -> Taken | None:
        """See ``Session``. Messages that were not taken are not acknowledged, and come again."""

    async def settled(self, receipts: Sequence[Receipt]) -> None:
        """See ``Session``."""
        await self._answer([str(one) for one in receipts], ACK)

    async def run(self, paused: Callable[[], bool]) -> None:  # noqa: ARG002
        """See ``Session``. Extends messages that are held for long, and notices a silent consumer."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep(), name="keep messages")
            if self.look is not None:
                tasks.create_task(self.look(), name="look at the stream")

    async def _keep(self) -> None:
        try:
            while True:
                await asyncio.sleep(min(1.0, self._ack_wait / 4))
                await self._extend()
                await self._pull()
                if self._asked > 0 and self._clock() - self._heard_at > SILENCE:
                    self.end(f"JetStream sent neither messages nor heartbeats for {SILENCE:.0f} seconds")
        except SourceEnded as error:
            self.end(error.loss.why)

    async def leave(self) -> None:
        """After ``abort``, ask the server to redeliver held messages now, not only after ``ack_wait``."""
        if not self._gives_back:
            return
        with contextlib.suppress(SourceEnded, TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._answer(list(self._held), NAK)
                with library_errors(nats.errors.Error):
                    await self._client.flush()
        self._held.clear()

    async def _receive(self, message: Msg) -> None:
        self._heard_at = self._clock()
        if not message.reply:  # a message of the stream can be acknowledged; what the server says about a pull cannot
            self._note((message.headers or {}).get("Status", ""), message.headers or {})
            return
        self._asked -= 1
        if (number := redelivery(message.reply)) is not None:
            self.redelivered.append(number)
        self._held.setdefault(message.reply, self._heard_at)
        self._waiting.append(message)
        self._arrived.set()

    def _note(self, status: str, headers: dict[str, str]) -> None:
        """Act on what the server says about a pull: a heartbeat, its end, or that there is no consumer."""
        if status == "100":
            return
        said = headers.get("Description", "")
        self._asked -= int(headers.get("Nats-Pending-Messages", "0"))
        if "exceeds" in said.lower():
            self._most_bytes = min(2 * self._most_bytes, MOST_BYTES_AHEAD)
        elif status not in ("404", "408") and "batch completed" not in said.lower():
            said = "nobody serves this consumer" if status == "503" else printable(said[:200])
            self.end(f"JetStream answered {status}: {said}")
        self._arrived.set()

    async def _pull(self) -> None:
        """Request more messages once half of those requested have arrived and were taken."""
        room = AHEAD - self._asked - len(self._waiting)
        if room < AHEAD // 2 or self._why:
            return
        if not self._asked:
            self._heard_at = self._clock()
        self._asked += room
        request = {
            "batch": room,
            "max_bytes": self._most_bytes,
            "expires": int(PULL_SECONDS * 1e9),
            "idle_heartbeat": int(HEARTBEAT * 1e9),
        }
        with library_errors(nats.errors.Error):
            await self._client.publish(self._pull_from, msgspec.json.encode(request), self._inbox)

    async def _extend(self) -> None:
        """Extend messages that were held for half of ``ack_wait``, the oldest first."""
        until = self._clock() - self._ack_wait / 2
        old: list[str] = []
        for receipt, at in self._held.items():
            if at > until:
                break
            old.append(receipt)
        await self._answer(old, IN_PROGRESS)
        now = self._clock()
        for receipt in old:
            if self._held.pop(receipt, None) is not None:
                self._held[receipt] = now

    async def _answer(self, receipts: Iterable[str], what: bytes) -> None:
        with library_errors(nats.errors.Error):
            for receipt in receipts:
                await self._client.publish(receipt, what)
                if what is not IN_PROGRESS:
                    self._held.pop(receipt, None)

    def _body(self, message: Msg) -> bytes:
        header = message.headers.get(ID_HEADER) if message.headers else None
        if header is None and message.data.startswith(b'{"event_id":'):
            return message.data
        return with_id(message.data, header or self._id_of(message))

    def _id_of(self, message: Msg) -> str:
        """Make an id of the message's position. A restored stream reuses sequence numbers, but not times."""
        known = message.metadata
        return f"{self._stream}.{known.sequence.stream}.{known.timestamp.timestamp() * 1e6:.0f}"
