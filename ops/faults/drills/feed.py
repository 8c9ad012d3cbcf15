"""A foreign source for drills: forwards each event of a producer's stream to all connected clients, and forgets it.

    python -m unlost.ops.faults.drills.feed ws://127.0.0.1:8080/ 8090

It has no cursors, adds nothing to the handshake and ignores ``after``: a client that is not connected misses events.
While no client is connected at all, it waits, so that a drill knows which events some listener must have received.
"""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator

from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, WebSocketException

from unlost.listener.source.stream.envelope import split

AGAIN_SECONDS = 0.2


class FeedClients:
    """All connected clients."""

    def __init__(self) -> None:
        self._clients: set[ServerConnection] = set()
        self._somebody = asyncio.Event()

    async def serve(self, client: ServerConnection) -> None:
        """Keep a client registered until it disconnects."""
        self._clients.add(client)
        self._somebody.set()
        try:
            await client.wait_closed()
        finally:
            self._clients.discard(client)

    async def hand_on(self, frame: bytes) -> None:
        """Send a frame to all connected clients; wait until there is at least one."""
        while not await self._send(frame):
            self._somebody.clear()
            if not self._clients:
                await self._somebody.wait()

    async def _send(self, frame: bytes) -> bool:
        sending = [self._send_to(client, frame) for client in list(self._clients)]
        return any(await asyncio.gather(*sending))

    async def _send_to(self, client: ServerConnection, frame: bytes) -> bool:
        try:
            await client.send(frame, text=True)
        except ConnectionClosed:
            self._clients.discard(client)
            return False
        return True


async def bodies_of(upstream: str) -> AsyncIterator[bytes]:
    """Read a producer's stream for ever, without its cursors."""
    while True:
        with contextlib.suppress(OSError, WebSocketException):
            async with connect(upstream, compression=None, max_size=None, proxy=None) as stream:
                async for message in stream:
                    yield split([str(message).encode()]).bodies[0]
        await asyncio.sleep(AGAIN_SECONDS)


async def run(upstream: str, port: int) -> None:
    """Forward events for ever."""
    clients = FeedClients()
    async with serve(clients.serve, "127.0.0.1", port, compression=None, close_timeout=2.0):
        async for body in bodies_of(upstream):
            await clients.hand_on(body)


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], int(sys.argv[2])))
