"""Copies a producer's stream into a JetStream stream, for drills of brokers. Nothing is copied before it was confirmed.

    python -m unlost.ops.faults.drills.to_jetstream ws://127.0.0.1:8080/ nats://127.0.0.1:4222 drill

It reads on after the last event that JetStream has confirmed. An event that is copied twice ends as a duplicate.
"""

import asyncio
import contextlib
import sys

import nats
from nats.js.client import JetStreamContext
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from unlost.listener.source.stream.envelope import split
from unlost.listener.source.stream.handshake import handshake_of, with_cursor

AGAIN_SECONDS = 0.2
CONFIRMED_WITHIN = 2.0
CLOSE_SECONDS = 0.2


class Copier:
    """Copies from a producer to a stream."""

    def __init__(self, upstream: str, servers: list[str], stream: str) -> None:
        self._upstream = upstream
        self._servers = servers
        self._stream = stream
        self._after: str | None = None

    async def run(self) -> None:
        """Copy for ever, and connect again after any error."""
        while True:
            with contextlib.suppress(OSError, WebSocketException, nats.errors.Error, TimeoutError):
                client = await nats.connect(self._servers, allow_reconnect=False, connect_timeout=2)
                try:
                    await self._copy(client.jetstream(timeout=CONFIRMED_WITHIN))
                finally:
                    await client.close()
            await asyncio.sleep(AGAIN_SECONDS)

    async def _copy(self, jetstream: JetStreamContext) -> None:
        url = with_cursor(self._upstream, self._after)
        # Closing waits for an answer behind all that was not read, so it must not wait for long.
        async with connect(url, compression=None, max_size=None, proxy=None, close_timeout=CLOSE_SECONDS) as source:
            if self._after is None and source.response is not None:
                # The beginning of the journal: a first connection without a cursor begins at its end.
                self._after = handshake_of(source.response.headers).oldest
                return
            async for message in source:
                batch = split([str(message).encode()])
                await jetstream.publish(f"{self._stream}.events", batch.bodies[0], stream=self._stream)
                self._after = batch.cursors[0]


if __name__ == "__main__":
    asyncio.run(Copier(sys.argv[1], sys.argv[2].split(","), sys.argv[3]).run())
