"""One client of the stream: how far it has been sent, and when it may be written to directly."""

import asyncio
from collections.abc import Sequence

from websockets.asyncio.server import ServerConnection
from websockets.frames import CloseCode
from websockets.protocol import State

from unlost.producer.stream.messages import Carry


class StreamClient:
    """A client, and the number of the last entry that was sent to it."""

    def __init__(self, connection: ServerConnection, number: int, carry: Carry) -> None:
        self.connection = connection
        self.number = number
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

    def write(self, bodies: Sequence[bytes]) -> None:
        """Write the events that come next to the socket. The caller makes sure that there is room."""
        self.connection.transport.write(self._carry(self.number + 1, bodies))
        self.number += len(bodies)
