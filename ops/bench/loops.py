"""The usual hand-written loop, in its two usual forms, as fair as we can make it.

It does the same job as a listener without a handler, but without a listener's guarantees. It reads a frame, claims its
id in Redis with ``SET NX EX``, inserts the row with ``ON CONFLICT DO NOTHING``, and deletes the key. Both forms use
uvloop, hiredis, prepared statements and persistent connections. The concurrent form processes many events at once, on
pools.

    python -m unlost.ops.bench.loops sequential WS_URL REDIS_URL DATABASE_URL COUNT
"""

import asyncio
import json
import sys
import time

import asyncpg
import uvloop
from redis.asyncio import BlockingConnectionPool, Redis
from websockets.asyncio.client import connect

from unlost.ops.bench.rivals.rows import TABLE

UNDER_WAY = 256
POSTGRES_POOL = 16
REDIS_POOL = 32
LEASE = 30
INSERT = """insert into loop_events (event_id, type, payload, received_at)
    values ($1, $2, $3, to_timestamp($4)) on conflict do nothing"""


class Loop:
    """The loop in both forms."""

    def __init__(self, redis: Redis, pool: "asyncpg.Pool[asyncpg.Record]") -> None:
        self._redis = redis
        self._pool = pool

    async def one(self, frame: bytes) -> None:
        """Process one event: claim, insert, release the claim."""
        received = time.time()
        event = json.loads(frame)
        key = f"claim:{event['event_id']}"
        if not await self._redis.set(key, "me", nx=True, ex=LEASE):
            return
        payload = json.dumps(event["payload"])
        await self._pool.execute(INSERT, event["event_id"], event.get("type"), payload, received)
        await self._redis.delete(key)

    async def sequential(self, url: str, count: int) -> None:
        """Process events one after another."""
        async with connect(url, compression=None, proxy=None) as stream:
            for _ in range(count):
                await self.one(await stream.recv(decode=False))

    async def concurrent(self, url: str, count: int) -> None:
        """Process many events at once, up to a limit."""
        free = asyncio.Semaphore(UNDER_WAY)

        async def run(frame: bytes) -> None:
            try:
                await self.one(frame)
            finally:
                free.release()

        async with connect(url, compression=None, max_queue=1_024, proxy=None) as stream, asyncio.TaskGroup() as tasks:
            for _ in range(count):
                await free.acquire()
                tasks.create_task(run(await stream.recv(decode=False)))


async def main(form: str, url: str, redis_url: str, database_url: str, count: str) -> None:
    """Run one form for so many frames."""
    wide = form == "concurrent"
    redis = Redis.from_pool(BlockingConnectionPool.from_url(redis_url, max_connections=REDIS_POOL if wide else 1))
    size = POSTGRES_POOL if wide else 1
    async with asyncpg.create_pool(database_url, min_size=size, max_size=size) as pool:
        await pool.execute(TABLE)
        await getattr(Loop(redis, pool), form)(url, int(count))
    await redis.aclose()


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
