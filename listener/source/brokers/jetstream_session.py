"""An open consumer of JetStream: takes messages, extends those that are held, and answers the server."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Sequence

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import ConsumerInfo

from unlost.listener.ports.source import Batch, Opened, Receipt, SourceEnded, Taken
from unlost.listener.source.brokers.errors import library_errors
from unlost.listener.source.brokers.identity import with_id
from unlost.listener.source.brokers.jetstream_pulls import Pulls
from unlost.listener.source.brokers.overtaken import redelivery
from unlost.listener.source.brokers.trace import traces_of

ID_HEADER = "Nats-Msg-Id"
CLOSE_SECONDS = 2.0
MOST_REDELIVERED = 100_000
"""How many redeliveries between two looks are counted."""
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
        self.opening = Opened()
        self._client = client
        self._pulls = Pulls(client, consumer, clock, self._arrived)
        self._stream = consumer.stream_name or ""
        self._ack_wait = min([consumer.config.ack_wait or 30.0, *(consumer.config.backoff or ())])
        self._held = held
        self._clock = clock
        self._gives_back = False
        self.look: Callable[[], Coroutine[None, None, None]] | None = None
        self.redelivered: deque[int] = deque(maxlen=MOST_REDELIVERED)
        """The numbers of recent deliveries that were not the first of their message."""

    async def begin(self) -> None:
        """Subscribe, and request the first messages."""
        await self._pulls.begin()

    def end(self, why: str) -> None:
        """End the session: ``take`` raises once all that arrived is taken."""
        self._pulls.end(why)

    async def give_back(self) -> None:
        """See ``Session``. The server redelivers these messages now, not only after ``ack_wait``."""
        self.end("the listener stops")
        await self._pulls.drain()
        await self._answer([one.reply for one in self._pulls.forget()], NAK)

    def abort(self) -> None:
        """See ``Session``. Held messages are not acknowledged: the server sends them again."""
        self._pulls.forget()
        self._gives_back = True
        self.end("reading begins again")

    async def take(self, most: int, size: int) -> Taken:
        """See ``Session``."""
        taken = await self._pulls.take(most, size)
        traces = traces_of(one.headers.items() if one.headers else None for one in taken)
        bodies = [body_of(one, self._stream) for one in taken]
        return Batch(bodies, [None] * len(taken), [(1, one.reply) for one in taken], traces)

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
                await self._pulls.keep()
        except SourceEnded as error:
            self.end(error.loss.why)

    async def leave(self) -> None:
        """After ``abort``, ask the server to redeliver held messages now, not only after ``ack_wait``."""
        if not self._gives_back:
            return
        with contextlib.suppress(SourceEnded, TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._pulls.drain()  # else the server redelivers to the requests of this session
                await self._answer(list(self._held), NAK)
                with library_errors(nats.errors.Error):
                    await self._client.flush()
        self._held.clear()

    def _arrived(self, message: Msg, at: float) -> None:
        if (number := redelivery(message.reply)) is not None:
            self.redelivered.append(number)
        self._held.setdefault(message.reply, at)

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


def body_of(message: Msg, stream: str) -> bytes:
    """Return a message's event. One without an id gets that of the header, or one of its place."""
    header = message.headers.get(ID_HEADER) if message.headers else None
    if header is None and message.data.startswith(b'{"event_id":'):
        return message.data
    return with_id(message.data, header or _id_of(message, stream))


def _id_of(message: Msg, stream: str) -> str:
    """Make an id of the message's position. A restored stream reuses sequence numbers, but not times."""
    known = message.metadata
    return f"{stream}.{known.sequence.stream}.{known.timestamp.timestamp() * 1e6:.0f}"
