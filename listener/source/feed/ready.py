"""Messages that wait to be taken, in the order in which they arrived, up to a limit of bytes."""

import asyncio
from collections import deque
from typing import Any

import msgspec

from unlost.listener.core.oversized import Oversized
from unlost.listener.ports.source import Batch, Taken
from unlost.listener.source.feed.connection import FeedConnection
from unlost.listener.source.feed.taking import Taking

HELD_BYTES = 1024 * 1024
"""Bytes of events that wait to be taken before reading pauses."""
TOGETHER_BYTES = 32 * 1024
"""Messages that wait together are taken together, beyond a limit of bytes by no more than this and one message."""
EVENT_BYTES = 64
"""Approximate memory of an event beside its bytes."""


class PendingReceipt(msgspec.Struct, frozen=True, gc=False):
    """The receipt of a message, and the connection on which the message arrived."""

    connection: FeedConnection
    value: object


class Ready(msgspec.Struct, gc=False):
    """The events of one message, or of several messages with one event each and no receipt: ``divisible``."""

    bodies: list[bytes]
    cursors: list[str | None]
    receipt: PendingReceipt | None
    size: int
    divisible: bool = False


class ReadyQueue:
    """Messages that several connections have delivered."""

    def __init__(self) -> None:
        self._ready: deque[Ready | Oversized] = deque()
        self._together: Ready | None = None
        """The last entry, if further messages with one event each can be added to it."""
        self._held = 0
        self.room = asyncio.Event()
        """Set while reading may continue."""
        self.room.set()

    def __bool__(self) -> bool:
        return bool(self._ready)

    def put(self, connection: FeedConnection, taking: Taking, size: int) -> None:
        """Add what one message became."""
        pending = None
        if taking.receipt is not None:
            connection.unsettled += 1
            pending = PendingReceipt(connection, taking.receipt.value)
        self._add(Ready(taking.bodies, taking.cursors, pending, size + EVENT_BYTES * len(taking.bodies)))

    def put_event(self, body: bytes, cursor: str | None, size: int) -> None:
        """Add a message that is one event and wants no receipt. An object for each would cost more than reading it."""
        together = self._together
        if together is None or together.size >= TOGETHER_BYTES:
            self._together = together = Ready([], [], None, 0, divisible=True)
            self._ready.append(together)
        together.bodies.append(body)
        together.cursors.append(cursor)
        together.size += size + EVENT_BYTES
        self._held += size + EVENT_BYTES
        if self._held >= HELD_BYTES:
            self.room.clear()

    def put_oversized(self, message: Oversized) -> None:
        """Add a message that is too large for an event."""
        self._together = None
        self._ready.append(message)
        self._hold(len(message.head))

    def _add(self, ready: Ready) -> None:
        self._together = None
        self._ready.append(ready)
        self._hold(ready.size)

    def _hold(self, size: int) -> None:
        self._held += size
        if self._held >= HELD_BYTES:
            self.room.clear()

    def take(self, most: int, size: int) -> Taken:
        """Return what waits within these limits, and at least one message. A message is never divided."""
        bodies: list[bytes] = []
        cursors: list[str | None] = []
        receipts: list[tuple[int, Any]] = []
        while self._ready and (not bodies or (len(bodies) < most and size > 0)):
            first = self._ready[0]
            if isinstance(first, Oversized):
                if bodies:
                    break
                self._ready.popleft()
                self._held -= len(first.head)
                self._make_room()
                return first
            allowed = max(1, most - len(bodies))
            if first.divisible and len(first.bodies) > allowed:
                first = self._divided(first, allowed)
            elif bodies and len(bodies) + len(first.bodies) > most:
                break
            else:
                self._ready.popleft()
            self._held -= first.size
            size -= first.size
            bodies += first.bodies
            cursors += first.cursors
            receipts.append((len(first.bodies), first.receipt))
        if not self._ready or self._together is not self._ready[-1]:
            self._together = None
        self._make_room()
        wanted = any(receipt is not None for _, receipt in receipts)
        return Batch(bodies, cursors, receipts if wanted else ())

    def _make_room(self) -> None:
        if self._held < HELD_BYTES // 2:
            self.room.set()

    def _divided(self, first: Ready, count: int) -> Ready:
        """Take some of the messages that wait together. Each counts for its share of their bytes."""
        size = first.size * count // len(first.bodies)
        part = Ready(first.bodies[:count], first.cursors[:count], None, size)
        first.bodies, first.cursors, first.size = first.bodies[count:], first.cursors[count:], first.size - size
        return part
