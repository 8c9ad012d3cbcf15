"""An open consumer of JetStream: requests messages ahead, extends those that are held, and answers the server."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Sequence

import msgspec
import nats
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js.api import ConsumerInfo

from unlost.listener.ports.source import Batch, Loss, Opening, Receipt, SourceEnded, Taken
from unlost.listener.source.brokers.errors import library_errors
from unlost.listener.source.brokers.identity import with_id
from unlost.listener.source.brokers.overtaken import redelivery
from unlost.listener.source.brokers.trace import traces_of
from unlost.ops.kit.telemetry.printable import printable

ID_HEADER = "Nats-Msg-Id"
AHEAD = 4096
"""The number of messages requested ahead of the reader, so that it need not wait for the network."""
BYTES_AHEAD = 16 * 1024 * 1024
MOST_BYTES_AHEAD = 128 * 1024 * 1024
"""Twice the largest message that NATS allows."""
CLOSE_SECONDS = 2.0
PULL_SECONDS = 30.0
MOST_REDELIVERED = 100_000
"""How many redeliveries between two looks are counted."""
HEARTBEAT = 2.0
SILENCE = 3 * HEARTBEAT
ACK, NAK, IN_PROGRESS = b"+ACK", b"-NAK", b"+WPI"


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
