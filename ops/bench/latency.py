"""Latency: from the moment an event is sent to the producer to the moment its row can be seen.

Beside it, in the same run, what no design gets below: one WebSocket hop, one Redis round trip, one durable commit
in PostgreSQL, each measured alone, one after another.
"""

import asyncio
import json
import time

import asyncpg
from redis.asyncio import Redis
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve

from ops.bench.bed import Bed, publishing
from ops.bench.client import Answer, checked
from ops.bench.figures import Latency, percentiles
from ops.bench.load import event

SETTLE = 60.0
SEEN = "create temporary table if not exists seen (seq bigint primary key, event_id text not null, at float8 not null)"
LOOK = """
do $$
declare
    whole bigint := {whole};
    due integer := {count};
    fresh integer;
begin
    set local enable_seqscan = off;  -- the plan is made while the table is all but empty
    while due > 0 loop
        insert into seen select seq, event_id, extract(epoch from clock_timestamp()) from events where seq > whole
            on conflict do nothing;
        get diagnostics fresh = row_count;
        due := due - fresh;
        while exists (select from seen where seq = whole + 1) loop
            whole := whole + 1;
        end loop;
        perform pg_sleep(0.0005);
    end loop;
end $$
"""
"""Looks at the table from a session of its own, in which each statement sees what was committed before it. A look costs
the machine little, so it can be taken often. Rows become visible out of order: a look begins after the last number
below which none is missing."""


async def published_to_visible(bed: Bed, *, rate: int, seconds: float) -> Latency:
    """Send at an even rate, and look at the table all the while."""
    await bed.forget_rows()
    await bed.begin_here()
    child = bed.system.listeners[0]
    child.start()
    try:
        await bed.publish([event(0, bed.new_run(), 200)])
        await bed.rows(1)
        return await _under_way(bed, bed.new_run(), rate, round(rate * seconds))
    finally:
        await asyncio.to_thread(child.stop)


async def _under_way(bed: Bed, run: str, rate: int, count: int) -> Latency:
    limit = SETTLE + count / rate
    await bed.connection.execute(SEEN)
    await bed.connection.execute("truncate seen")
    whole = await bed.connection.fetchval("select max(seq) from events")
    requests = [publishing(event(number, run, 300)) for number in range(count)]
    await bed.publisher.open()
    async with asyncio.timeout(limit), asyncio.TaskGroup() as tasks:
        tasks.create_task(bed.connection.execute(LOOK.format(whole=whole, count=count), timeout=limit))
        sent: list[tuple[float, asyncio.Future[Answer]]] = []
        began = time.perf_counter()
        for number, request in enumerate(requests):
            if (early := began + number / rate - time.perf_counter()) > 0:
                await asyncio.sleep(early)
            sent.append((time.time(), bed.publisher.send(request)))
        for _, answer in sent:
            checked(await answer)
    rows = await bed.connection.fetch("select event_id, at from seen")
    seen: dict[str, float] = {row["event_id"]: row["at"] for row in rows}
    return percentiles([seen[f"{run}-{number:08}"] - at for number, (at, _) in enumerate(sent)])


async def floor(bed: Bed, *, times: int) -> Latency:
    """One hop, one round trip, one commit, in a row, so many times."""

    async def echo(connection: ServerConnection) -> None:
        async for frame in connection:
            await connection.send(frame)

    line = event(0, "floor", 300).decode()
    payload = json.dumps(json.loads(line)["payload"])
    await bed.connection.execute("create table if not exists floor_events (id text primary key, payload jsonb)")
    async with serve(echo, "127.0.0.1", 0, compression=None) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        async with connect(f"ws://127.0.0.1:{port}/", compression=None, proxy=None) as stream:
            took = [await _once(stream, bed.redis, bed.connection, line, f"{n}", payload) for n in range(times)]
    await bed.connection.execute("drop table floor_events")
    return percentiles(took)


async def _once(
    stream: ClientConnection,
    redis: Redis,
    connection: "asyncpg.Connection[asyncpg.Record]",
    line: str,
    key: str,
    payload: str,
) -> float:
    started = time.perf_counter()
    await stream.send(line)
    await stream.recv()
    hop = (time.perf_counter() - started) / 2
    started = time.perf_counter()
    await redis.set(f"floor:{key}", "me", nx=True, ex=30)
    await connection.execute("insert into floor_events values ($1, $2)", key, payload)
    return hop + time.perf_counter() - started
