"""A feed for drills, as Slack's Socket Mode: gives each event to one client, and again until it is acknowledged.

    python -m unlost.ops.faults.drills.acknowledged_feed ws://127.0.0.1:8080/ 8090 record

An event that a client has not acknowledged comes again after three seconds, or once the client is gone, to any client.
"""

import asyncio
import contextlib
import itertools
import json
import sys
import time
from pathlib import Path

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from unlost.ops.faults.drills.feed import bodies_of
from unlost.ops.faults.drills.feed_record import FeedRecord, id_in

AGAIN_SECONDS = 3.0
LOOK_SECONDS = 0.1
HELLO = '{"type":"hello","num_connections":1}'


class AcknowledgedFeed:
    """All connected clients, and the events that none of them has acknowledged."""

    def __init__(self, record: FeedRecord) -> None:
        self._record = record
        self._names = itertools.count(1)
        self._clients: dict[int, ServerConnection] = {}
        self._somebody = asyncio.Event()
        self._turns = itertools.count()
        self._waiting: dict[str, tuple[bytes, int, float]] = {}
        """By envelope: the event, the client that has it, and when it was given."""

    async def serve(self, client: ServerConnection) -> None:
        """Take acknowledgements until the client disconnects."""
        name = next(self._names)
        with contextlib.suppress(ConnectionClosed):
            await client.send(HELLO)
            self._clients[name] = client
            self._record.add("joined", name)
            self._somebody.set()
            async for message in client:
                envelope = json.loads(message)["envelope_id"]
                self._record.add("acknowledged", name, envelope)
                self._waiting.pop(envelope, None)
        if self._clients.pop(name, None) is not None:
            self._record.add("left", name)

    async def give(self, body: bytes) -> None:
        """Give an event to one client; wait until there is one."""
        envelope = id_in(body)
        while not self._clients:
            self._somebody.clear()
            await self._somebody.wait()
        names = list(self._clients)
        name = names[next(self._turns) % len(names)]
        self._waiting[envelope] = (body, name, time.monotonic())
        self._record.add("sent", name, envelope)
        message = b'{"envelope_id":%b,"type":"events_api","payload":%b}' % (json.dumps(envelope).encode(), body)
        with contextlib.suppress(ConnectionClosed):
            await self._clients[name].send(message, text=True)

    async def give_again(self) -> None:
        """Give what was not acknowledged to a client again."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            late = time.monotonic() - AGAIN_SECONDS
            for body, name, since in list(self._waiting.values()):
                if (since < late or name not in self._clients) and id_in(body) in self._waiting:
                    await self.give(body)


async def run(upstream: str, port: int, record: Path) -> None:
    """Forward events for ever."""
    feed = AcknowledgedFeed(FeedRecord(record))
    async with serve(feed.serve, "127.0.0.1", port, compression=None, close_timeout=2.0), asyncio.TaskGroup() as tasks:
        tasks.create_task(feed.give_again())
        async for body in bodies_of(upstream):
            await feed.give(body)


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])))
