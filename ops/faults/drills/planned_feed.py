"""A feed for drills: sends each event to all clients, once, and ends their connections by a plan. It cannot resume.

    python -m unlost.ops.faults.drills.planned_feed ws://127.0.0.1:8080/ 8090 record

SIGUSR1 begins the plan: some clients are asked to move to a new connection, others are closed with a code or without.
One is ended while another one listens, so that each event reaches some client. Heartbeats between the events are none.
"""

import asyncio
import contextlib
import itertools
import signal
import sys
import time
from pathlib import Path

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from unlost.ops.faults.drills.feed import bodies_of
from unlost.ops.faults.drills.feed_record import ABORT, MOVE, PLAN, FeedRecord, id_in

STEADY_SECONDS = 0.5
LOOK_SECONDS = 0.02
BEATS_EVERY = 50
HEARTBEAT, DISCONNECT = '{"type":"heartbeat"}', '{"type":"disconnect","reason":"refresh_requested"}'


class PlannedFeed:
    """All connected clients, the oldest first."""

    def __init__(self, record: FeedRecord) -> None:
        self._record = record
        self._names = itertools.count(1)
        self._clients: dict[ServerConnection, tuple[int, float]] = {}
        self._somebody = asyncio.Event()
        self.begun = asyncio.Event()

    async def serve(self, client: ServerConnection) -> None:
        """Keep a client registered until it disconnects."""
        name = next(self._names)
        self._clients[client] = (name, time.monotonic())
        self._record.add("joined", name)
        self._somebody.set()
        try:
            await client.wait_closed()
        finally:
            self._clients.pop(client, None)
            self._record.add("left", name)

    async def send(self, body: bytes, number: int) -> None:
        """Send an event to all clients; wait until there is one. It is never sent again."""
        while not self._clients:
            self._somebody.clear()
            await self._somebody.wait()
        for client, (name, _) in list(self._clients.items()):
            with contextlib.suppress(ConnectionClosed):
                await client.send(body, text=True)
                self._record.add("sent", name, id_in(body))
                if number % BEATS_EVERY == 0:
                    await client.send(HEARTBEAT)

    async def end_by_plan(self) -> None:
        """End connections one after the other, each while another one has been open for a while."""
        await self.begun.wait()
        for how in PLAN:
            await self._end(how, await self._oldest_of_two())

    async def _oldest_of_two(self) -> ServerConnection:
        while True:
            steady = time.monotonic() - STEADY_SECONDS
            open_now = [one for one, (_, since) in self._clients.items() if since < steady]
            if len(open_now) == len(self._clients) == 2:
                return open_now[0]
            await asyncio.sleep(LOOK_SECONDS)

    async def _end(self, how: str, client: ServerConnection) -> None:
        self._record.add("ended", self._clients[client][0], how)
        if how == MOVE:
            with contextlib.suppress(ConnectionClosed):
                await client.send(DISCONNECT)
            await client.wait_closed()  # once it has opened another connection
        elif how == ABORT:
            del self._clients[client]
            client.transport.abort()
        else:
            del self._clients[client]
            await client.close(int(how), "planned")


async def run(upstream: str, port: int, record: Path) -> None:
    """Forward events for ever."""
    feed = PlannedFeed(FeedRecord(record))
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, feed.begun.set)
    numbers = itertools.count(1)
    async with serve(feed.serve, "127.0.0.1", port, compression=None, close_timeout=2.0), asyncio.TaskGroup() as tasks:
        tasks.create_task(feed.end_by_plan())
        async for body in bodies_of(upstream):
            await feed.send(body, next(numbers))


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])))
