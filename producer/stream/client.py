"""One client of the stream: how far it has been sent, and when it may be written to directly.

A client of some partitions may get nothing for long. Then it is sent how far the stream has gone, now and then.
"""

import asyncio
from collections.abc import Callable, Sequence

from websockets.asyncio.server import ServerConnection
from websockets.frames import CloseCode
from websockets.protocol import State

from unlost.producer.stream.messages import Carry

Pick = Callable[[int, Sequence[bytes]], Sequence[bytes]]
"""Empties the bodies that are not for a client. The first argument is the number of the first."""


class StreamClient:
    """A client, and the number of the last entry that was sent to it."""

    def __init__(self, connection: ServerConnection, number: int, carry: Carry, pick: Pick | None = None) -> None:
        """``pick``: of a client of some partitions."""
        self.connection = connection
        self.number = number
        self.pick = pick
        self._announced = number
        """Up to which number the client knows that it has been sent everything."""
        self._carry = carry
        self.wake = asyncio.Event()
        self.rests = False
        """Its task is waiting for new entries."""
        self.ended: tuple[CloseCode, str] | None = None
        """Why nothing more is sent."""

    def end(self, code: CloseCode, why: str) -> None:
        """Send nothing more. Its task then closes, unless it waits for a client that does not read."""
        self.ended = code, why
        if self.connection.paused:
            self.connection.transport.abort()
        self.wake.set()

    async def rest(self) -> None:
        """Wait until woken."""
        self.wake.clear()
        self.rests = True
        try:
            await self.wake.wait()
        finally:
            self.rests = False

    @property
    def is_ready(self) -> bool:
        """Whether events written now follow those written before, and the socket has room."""
        connection = self.connection
        is_open = connection.state is State.OPEN and not connection.transport.is_closing()
        # If it was woken but has not run yet, its task is about to send by itself.
        return is_open and self.rests and not (self.wake.is_set() or self.ended or connection.paused)

    def write(self, bodies: Sequence[bytes]) -> int:
        """Write the events that come next to the socket, and return how many are for this client.

        The caller makes sure that there is room.
        """
        first, count = self.number + 1, len(bodies)
        picked = bodies if self.pick is None else self.pick(first, bodies)
        wire = self._carry(first, picked)
        self.number += count
        if wire:
            self.connection.transport.write(wire)
            self._announced = self.number
        return count if self.pick is None else sum(map(bool, picked))

    @property
    def lacks_progress(self) -> bool:
        """Whether the client does not know how far it has been sent."""
        return self.number > self._announced

    def announce(self, message: bytes) -> None:
        """Write a message that everything up to here has been sent."""
        self.connection.transport.write(message)
        self._announced = self.number
