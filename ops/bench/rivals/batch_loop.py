"""A loop on the stream that our listeners read: one connection, and two workers that insert what has arrived.

``unnest`` promises what the primary key promises, and begins anew at each start. ``copy`` promises nothing at all: it
is the fastest way from the stream to visible rows that the libraries of Python have.

    python -m unlost.ops.bench.rivals.batch_loop STREAM_URL DATABASE_URL unnest|copy
"""

import asyncio
import sys

import asyncpg
import uvloop
from websockets.asyncio.client import connect

from unlost.ops.bench.rivals.rows import BATCH, begin_when_asked, copy, insert

WORKERS = 2
WAITING_MESSAGES = 64
MANY_EVENTS_IN_A_MESSAGE = {"unlost-accept": "lines"}


async def work(stream_url: str, database_url: str, form: str) -> None:
    """Store what the stream sends, until killed."""
    write = {"unnest": insert, "copy": copy}[form]
    waiting: asyncio.Queue[list[bytes]] = asyncio.Queue(WAITING_MESSAGES)
    connections = [await asyncpg.connect(database_url) for _ in range(WORKERS)]

    async def worker(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        while True:
            batch = await waiting.get()
            while len(batch) < BATCH and not waiting.empty():
                batch += waiting.get_nowait()
            await write(connection, batch)

    begin_when_asked()
    stream = connect(
        stream_url, additional_headers=MANY_EVENTS_IN_A_MESSAGE, compression=None, max_size=None, proxy=None
    )
    async with stream as messages, asyncio.TaskGroup() as tasks:
        for one in connections:
            tasks.create_task(worker(one))
        while True:
            _, *events = (await messages.recv(decode=False)).split(b"\n")
            await waiting.put(events)


if __name__ == "__main__":
    uvloop.run(work(*sys.argv[1:]))
