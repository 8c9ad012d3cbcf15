"""Requests messages of one JetStream consumer ahead of the reader, and keeps those that have arrived.

Each request asks for idle heartbeats. When these stop, or the server refuses a request, the session is over.
"""

import asyncio
from collections import deque
from collections.abc import Callable

import msgspec
import nats
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js.api import ConsumerInfo

from unlost.listener.ports.source import Loss, SourceEnded
from unlost.listener.source.brokers.errors import library_errors
from unlost.ops.kit.telemetry.printable import printable

AHEAD = 4096
"""The number of messages requested ahead of the reader, so that it need not wait for the network."""
BYTES_AHEAD = 16 * 1024 * 1024
MOST_BYTES_AHEAD = 128 * 1024 * 1024
"""Twice the largest message that NATS allows."""
PULL_SECONDS = 30.0
HEARTBEAT = 2.0
SILENCE = 3 * HEARTBEAT


class Pulls:
    """The requests to a consumer, and what they brought."""

    def __init__(
        self, client: Client, consumer: ConsumerInfo, clock: Callable[[], float], arrived: Callable[[Msg, float], None]
    ) -> None:
        """Make them. ``arrived`` is called with each message of the stream, and when it came."""
        self._client = client
        self._pull_from = f"$JS.API.CONSUMER.MSG.NEXT.{consumer.stream_name}.{consumer.name}"
        self._clock = clock
        self._noted = arrived
        self._inbox = client.new_inbox()
        self._subscription: Subscription
        self._waiting: deque[Msg] = deque()
        self._asked = 0
        self._most_bytes = BYTES_AHEAD
        self._heard_at = clock()
        self._arrived = asyncio.Event()
        self._why = ""
        self._drained = False

    async def begin(self) -> None:
        """Subscribe, and request the first messages."""
        # No limits of the library: it would drop what exceeds them. The requests bound what arrives.
        self._subscription = await self._client.subscribe(
            self._inbox, cb=self._receive, pending_msgs_limit=0, pending_bytes_limit=0
        )
        await self._pull()

    def end(self, why: str) -> None:
        """Request no more: ``take`` raises once all that arrived is taken."""
        self._why = self._why or why
        self._arrived.set()

    def forget(self) -> list[Msg]:
        """Return what was not taken; ``take`` does not return it any more."""
        untaken = list(self._waiting)
        self._waiting.clear()
        return untaken

    async def drain(self) -> None:
        """Wait for what is on its way, and receive nothing after it."""
        if self._drained:
            return
        self._drained = True
        with library_errors(nats.errors.Error):
            await self._subscription.drain()  # type: ignore[no-untyped-call]  # the library says no types

    async def take(self, most: int, size: int) -> list[Msg]:
        """Return the next messages, at least one; ``SourceEnded`` at the end."""
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
        return taken

    async def keep(self) -> None:
        """Request what there is room for, and notice a consumer that is silent. To be called every second or so."""
        await self._pull()
        if self._asked > 0 and self._clock() - self._heard_at > SILENCE:
            self.end(f"JetStream sent neither messages nor heartbeats for {SILENCE:.0f} seconds")

    async def _receive(self, message: Msg) -> None:
        self._heard_at = self._clock()
        if not message.reply:  # a message of the stream can be acknowledged; what the server says about a pull cannot
            self._note((message.headers or {}).get("Status", ""), message.headers or {})
            return
        self._asked -= 1
        self._noted(message, self._heard_at)
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
