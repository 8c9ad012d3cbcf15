"""Handlers to measure, and the same work written by hand."""

import asyncio
import hashlib
import json
import time
import zlib
from typing import TypeAlias

import asyncpg

from unlost.listener.core.delivery import Delivery
from unlost.ops.bench.bed import Bed
from unlost.ops.bench.figures import Latencies, Measured
from unlost.ops.bench.latency import published_to_visible
from unlost.ops.bench.load import events
from unlost.ops.system.child import Child

COUNTERS = 997
MARK = "fails-"
FAILING_ONE_IN = 20
AWAITED_SECONDS = 0.005
INSTANT = f"{__name__}:instant"
BY_HAND = 16
"""A listener's default number of concurrent handlers."""
TABLE = "create table if not exists counters (id int primary key, n bigint not null)"
FILL = "insert into counters select i, 0 from generate_series(0, $1 - 1) i on conflict do nothing"
UPDATE = "update counters set n = n + 1 where id = $1"
INSERT = """insert into by_hand
        (event_id, type, payload, payload_sha256, instance_id, claim_token, epoch, attempts, received_at)
    values ($1, $2, $3, $4, 'hand', 'hand', 1, 1, to_timestamp($5)) on conflict do nothing returning event_id"""

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"


async def plain(event: Delivery) -> None:
    """Wait, as for a quick response of another service, and fail for marked events."""
    await asyncio.sleep(AWAITED_SECONDS)
    await instant(event)


async def transaction(event: Delivery, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Update one row in the transaction of the event's row, and fail for marked events."""
    await connection.execute(UPDATE, _counter(event.event_id))
    await instant(event)


async def instant(event: Delivery) -> None:
    """Take no time, and fail for marked events."""
    if event.event_id.startswith(MARK):
        raise ConnectionError("as marked")


def child_with(bed: Bed, handler: str, **settings: str) -> Child:
    """Make a listener with one of the handlers above, not yet started."""
    return child_of(bed, f"{__name__}:{handler}", **settings)


def child_of(bed: Bed, handler: str, **settings: str) -> Child:
    """Make a listener with the handler of this name, not yet started."""
    system = bed.system
    return system.layout.with_settings(HANDLER=handler, **settings).listeners(system.database_url, system.redis_url)[0]


async def healthy(bed: Bed, handler: str, *, count: int, failing: bool, **settings: str) -> Measured:
    """Measure how fast one listener stores healthy events; if ``failing``, every twentieth event fails each time.

    ``handler``: the whole name of one that fails for marked events.
    """
    await counters(bed)
    await bed.forget_rows()
    lines = events(count, bed.new_run(), 300)
    if failing:
        lines = [one_fails(number, line) for number, line in enumerate(lines)]
    stored = count - len(range(0, count, FAILING_ONE_IN)) if failing else count
    # Those that fail still wait for another attempt when all others are stored.
    child = child_of(bed, handler, SHUTDOWN_TIMEOUT="0", **settings)
    return Measured(stored, (await bed.stored([child], lines, stored)).seconds)


async def seen(bed: Bed, *, rate: int, seconds: float, failing: bool) -> Latencies:
    """Measure when healthy events become visible; if ``failing``, every twentieth event fails each time."""
    return await published_to_visible(
        bed, rate=rate, seconds=seconds, children=[child_with(bed, "instant", SHUTDOWN_TIMEOUT="0")],
        changed=one_fails if failing else None,
    )  # fmt: skip


def one_fails(number: int, line: bytes) -> bytes:
    """Mark every twentieth event."""
    return line.replace(b'"event_id": "', b'"event_id": "' + MARK.encode(), 1) if number % FAILING_ONE_IN == 0 else line


async def stored(bed: Bed, handler: str, *, count: int, **settings: str) -> Measured:
    """Measure one listener with this handler."""
    await counters(bed)
    await bed.forget_rows()
    child = child_with(bed, handler, **settings)
    return await bed.stored([child], events(count, bed.new_run(), 300), count)


async def by_hand(bed: Bed, *, count: int, at_once: int = BY_HAND) -> Measured:
    """Measure hand-written code: row and update in one transaction, on a pool of the same size, and nothing else.

    It has no claims and no retries. The row is the same: the same columns, in a table of the same shape.
    """
    await counters(bed)
    await bed.connection.execute("drop table if exists by_hand")
    await bed.reports.table_like()
    todo = events(count, bed.new_run(), 300)
    async with asyncpg.create_pool(bed.system.database_url, min_size=at_once, max_size=at_once) as pool:
        loop = asyncio.get_running_loop()
        started = loop.time()
        await asyncio.gather(*(_work(pool, todo) for _ in range(at_once)))
        return Measured(count, loop.time() - started)


async def counters(bed: Bed) -> None:
    """Make the table that ``transaction`` updates."""
    await bed.connection.execute(TABLE)
    await bed.connection.execute(FILL, COUNTERS)


async def _work(pool: "asyncpg.Pool[asyncpg.Record]", todo: list[bytes]) -> None:
    while todo:
        frame = todo.pop()
        async with pool.acquire() as connection:
            await _store(connection, frame, works=True)


async def store_all(connection: "asyncpg.Connection[asyncpg.Record]", todo: list[bytes], *, works: bool) -> None:
    """Store events one after another, each with its commit; if it ``works``, with the update in its transaction."""
    for frame in todo:
        await _store(connection, frame, works=works)


async def _store(connection: Connection, frame: bytes, *, works: bool) -> None:
    received, event = time.time(), json.loads(frame)
    payload = json.dumps(event["payload"])
    digest = hashlib.sha256(payload.encode()).digest()
    row = event["event_id"], event["type"], payload, digest, received
    if not works:
        await connection.fetchval(INSERT, *row)
        return
    async with connection.transaction():
        if await connection.fetchval(INSERT, *row):
            await connection.execute(UPDATE, _counter(event["event_id"]))


def _counter(event_id: str) -> int:
    return zlib.crc32(event_id.encode()) % COUNTERS
