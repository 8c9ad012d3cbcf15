"""Latency: from the moment an event is due to be sent to the producer to the moment its row can be seen.

Beside it, in the same run, what no design gets below: one WebSocket hop, one Redis round trip, one durable commit
in PostgreSQL, measured alone.
"""

import asyncio
import contextlib
import json
import math
import sys
import time
from collections.abc import AsyncIterator, Iterable, Sequence

import asyncpg
from redis.asyncio import Redis
from websockets.asyncio.client import ClientConnection, connect

from unlost.ops.bench.bed import Bed, publishing
from unlost.ops.bench.figures import Latency, percentiles
from unlost.ops.bench.load import event
from unlost.ops.bench.pacing import Paced, wait_until

SETTLE = 60.0
WARM_SECONDS = 1.5
"""A listener that has just started is not what is measured: what is sent within these does not count."""
WARM_TIMES = 200
"""The same for what is done one after another."""
MOMENT = 0.2
"""After the last answer, before rows are counted: by then nearly all are there, and counting disturbs nobody."""
LOOKING = 4_610
"""The advisory lock that is held as long as looks are to be taken."""
MAKE_LOOKS = f"""
create or replace function pg_temp.looks() returns table (snapshot text, at float8) language plpgsql as $$
declare
    ended boolean := false;
    slept text;
begin
    while not ended loop
        ended := pg_try_advisory_xact_lock({LOOKING});
        snapshot := pg_current_snapshot();
        at := extract(epoch from clock_timestamp());
        return next;
        slept := pg_sleep(0.0005);
    end loop;
end $$
"""
"""Looks from a session of its own. A look is a snapshot, taken anew each time, and then the time: any statement with
that snapshot would have seen what was committed in it. Which row is in which is found afterwards, so a look costs next
to nothing and can be taken often. The last one begins when nobody holds the lock any more."""
LOOKS = "select snapshot, at from pg_temp.looks()"
ROWS = "select event_id, xmin::text::bigint as written_by from unlost.events where seq > $1"


async def published_to_visible(bed: Bed, *, rate: int, seconds: float) -> Latency:
    """Send at an even rate, and look at the table all the while."""
    await bed.forget_rows()
    await bed.begin_here()
    child = bed.system.listeners[0]
    child.start()
    try:
        await bed.publish([event(0, bed.new_run(), 200)])
        await bed.rows(1)
        return await _under_way(bed, bed.new_run(), rate, seconds)
    finally:
        await asyncio.to_thread(child.stop)


async def _under_way(bed: Bed, run: str, rate: int, seconds: float) -> Latency:
    warm, limit = round(rate * WARM_SECONDS), SETTLE + WARM_SECONDS + seconds
    count = warm + round(rate * seconds)
    whole = await bed.connection.fetchval("select max(seq) from unlost.events")
    requests = [publishing(event(number, run, 300)) for number in range(count)]
    async with asyncio.timeout(limit), _looking(bed, limit) as looks:
        sent = await _sent(bed, requests, rate)
        await asyncio.sleep(MOMENT)
        await bed.rows(1 + count)
    rows = await bed.connection.fetch(ROWS, whole)
    seen = became_visible([(look["snapshot"], look["at"]) for look in await looks], {row["written_by"] for row in rows})
    visible = {row["event_id"]: seen[row["written_by"]] for row in rows}
    return percentiles([visible[f"{run}-{number:08}"] - at for number, at in enumerate(sent)][warm:])


async def _sent(bed: Bed, requests: Sequence[bytes], rate: int) -> list[float]:
    """Send these at an even rate; when each was due, after all are answered."""
    paced = await asyncio.to_thread(Paced, *bed.publisher.address)
    try:
        return await asyncio.to_thread(paced.send, requests, rate)
    finally:
        paced.close()


@contextlib.asynccontextmanager
async def _looking(bed: Bed, limit: float) -> AsyncIterator[asyncio.Task[list[asyncpg.Record]]]:
    """Looks are taken meanwhile, and one more at the end."""
    session = await asyncpg.connect(bed.system.database_url)
    try:
        await session.execute(MAKE_LOOKS)
        await bed.connection.execute("select pg_advisory_lock($1)", LOOKING)
        looks = asyncio.create_task(session.fetch(LOOKS, timeout=limit))
        try:
            yield looks
        finally:
            await bed.connection.execute("select pg_advisory_unlock($1)", LOOKING)
            await looks
    finally:
        await session.close()


def became_visible(looks: Iterable[tuple[str, float]], transactions: Iterable[int]) -> dict[int, float]:
    """When each of these came to be seen: midway between the last look without it and the first one with it.

    Looks are snapshots and times, in order.
    """
    before: float | None = None
    to_begin = sorted(transactions, reverse=True)
    under_way: set[int] = set()
    seen: dict[int, float] = {}
    for snapshot, at in looks:
        _, end, running = snapshot.split(":")
        while to_begin and to_begin[-1] < int(end):
            under_way.add(to_begin.pop())
        if under_way:
            ended = under_way.difference(map(int, filter(None, running.split(","))))
            seen.update(dict.fromkeys(ended, at if before is None else (before + at) / 2))
            under_way -= ended
        before = at
    return seen


async def floor(bed: Bed, *, times: int, rate: int | None = None) -> Latency:
    """One hop, one round trip, one commit, in a row, so many times: at once, or at an even rate.

    At a rate, what would have been sent while one took too long is counted as if it had waited for that and for nothing
    else. Who only sends the next when the last has ended forgives the machine its stalls: they meet one event, where at
    that rate they meet many.
    """

    line = event(0, "floor", 300).decode()
    payload = json.dumps(json.loads(line)["payload"])
    await bed.connection.execute("create table if not exists floor_events (id text primary key, payload jsonb)")
    async with _echo() as url, connect(url, compression=None, proxy=None) as stream:
        took: list[float] = []
        began = time.perf_counter()
        while len(took) < WARM_TIMES + times:
            started = time.perf_counter()
            if rate and (due := began + len(took) / rate) > started:
                wait_until(due)  # nothing else runs here
                started = due
            back = await _once(stream, bed.redis, bed.connection, line, f"{len(took)}", payload)
            took.append(time.perf_counter() - started - back)
            if rate:
                took += missed(took[-1], 1 / rate)
    await bed.connection.execute("drop table floor_events")
    return percentiles(took[WARM_TIMES:])


def missed(took: float, interval: float) -> list[float]:
    """How long those would have taken that were due while one took so long."""
    return [took - interval * number for number in range(1, math.ceil(took / interval))]


@contextlib.asynccontextmanager
async def _echo() -> AsyncIterator[str]:
    """The other end of a hop is another process."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "unlost.ops.bench.echo", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdin
    assert process.stdout
    try:
        yield f"ws://127.0.0.1:{int(await process.stdout.readline())}/"
    finally:
        process.stdin.close()
        await process.wait()


async def _once(
    stream: ClientConnection,
    redis: Redis,
    connection: "asyncpg.Connection[asyncpg.Record]",
    line: str,
    key: str,
    payload: str,
) -> float:
    """All three, in a row; how much of that was the way back, since what is sent over a hop does not come back."""
    started = time.perf_counter()
    await stream.send(line)
    await stream.recv()
    back = (time.perf_counter() - started) / 2
    await redis.set(f"floor:{key}", "me", nx=True, ex=30)
    await connection.execute("insert into floor_events values ($1, $2)", key, payload)
    return back
