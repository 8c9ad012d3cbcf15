"""Handlers that are measured, and the same work written by hand."""

import asyncio
import zlib

import asyncpg

from listener.delivery import Delivery
from ops.bench.bed import Bed
from ops.bench.figures import Measured
from ops.bench.load import events
from ops.local.child import Child

COUNTERS = 997
AWAITED_SECONDS = 0.005
BY_HAND = 16
"""As many at once as a listener runs handlers by default."""
TABLE = "create table if not exists counters (id int primary key, n bigint not null)"
FILL = "insert into counters select i, 0 from generate_series(0, $1 - 1) i on conflict do nothing"
UPDATE = "update counters set n = n + 1 where id = $1"
INSERT = "insert into by_hand (event_id, payload) values ($1, $2) on conflict do nothing returning event_id"


async def plain(event: Delivery) -> None:  # noqa: ARG001  a handler takes it
    """Wait as for a quick answer of somebody else's."""
    await asyncio.sleep(AWAITED_SECONDS)


async def transaction(event: Delivery, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """One update beside the row."""
    await connection.execute(UPDATE, _counter(event.event_id))


def child_with(bed: Bed, handler: str) -> Child:
    """A listener with one of the handlers above, not yet started."""
    system = bed.system
    return system.layout.with_settings(HANDLER=f"{__name__}:{handler}").listeners(
        system.postgres.url, system.valkey.url
    )[0]


async def stored(bed: Bed, handler: str, *, count: int) -> Measured:
    """One listener with this handler."""
    await _counters(bed)
    await bed.forget_rows()
    child = child_with(bed, handler)
    return await bed.stored([child], events(count, bed.new_run(), 300), count)


async def by_hand(bed: Bed, *, count: int) -> Measured:
    """Row and update in one transaction, on a pool as large, without claims, retries or anything else."""
    await _counters(bed)
    await bed.connection.execute("drop table if exists by_hand")
    await bed.connection.execute("create table by_hand (event_id text primary key, payload jsonb)")
    todo = [f"hand-{number:08}" for number in range(count)]
    async with asyncpg.create_pool(bed.system.postgres.url, min_size=BY_HAND, max_size=BY_HAND) as pool:
        loop = asyncio.get_running_loop()
        started = loop.time()
        await asyncio.gather(*(_work(pool, todo) for _ in range(BY_HAND)))
        return Measured(count, loop.time() - started)


async def _counters(bed: Bed) -> None:
    await bed.connection.execute(TABLE)
    await bed.connection.execute(FILL, COUNTERS)


async def _work(pool: "asyncpg.Pool[asyncpg.Record]", todo: list[str]) -> None:
    payload = '{"number": 1, "user": "user-1", "text": "' + "x" * 190 + '"}'
    while todo:
        event_id = todo.pop()
        async with pool.acquire() as connection, connection.transaction():
            if await connection.fetchval(INSERT, event_id, payload):
                await connection.execute(UPDATE, _counter(event_id))


def _counter(event_id: str) -> int:
    return zlib.crc32(event_id.encode()) % COUNTERS
