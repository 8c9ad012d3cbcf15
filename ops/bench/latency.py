"""Latency: from the moment when an event should be sent to the producer until its row is visible.

The same run measures a floor that no design can beat: one WebSocket hop, one Redis round trip, and one durable commit
in PostgreSQL, measured alone.
"""

import asyncio
import contextlib
import json
import math
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import Protocol

import asyncpg
from redis.asyncio import Redis
from websockets.asyncio.client import ClientConnection, connect

from unlost.ops.bench.bed import LOOK, Bed
from unlost.ops.bench.figures import Latencies, percentiles
from unlost.ops.bench.load import event
from unlost.ops.bench.pacing import Door, PacedPublisher, wait_until
from unlost.ops.system.child import Child

SETTLE = 60.0
WARM_SECONDS = 1.5
"""Events of the first seconds do not count, since a listener that has just started is slower."""
WARM_TIMES = 200
"""The same for the floor: its first measurements do not count."""
MOMENT = 0.2
"""Pause between the last response and counting rows: by then nearly all are there, and counting disturbs nothing."""
LOOKING = 4_610
"""The advisory lock that is held for as long as looks must be taken."""
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
"""Takes looks from a separate session. A look is a new snapshot and then the time: any statement with that snapshot
would have seen everything committed in it. Rows are matched with looks afterwards, so a look costs next to nothing and
can be taken often. The last look begins when the lock is free."""
LOOKS = "select snapshot, at from pg_temp.looks()"


Change = Callable[[int, bytes], bytes]
"""Makes another event of one with this number."""


class Rows(Protocol):
    """Where the events of a measurement become rows."""

    door: Door
    """Where they are published."""

    async def arrived(self, count: int) -> None:
        """Wait until so many events are rows."""

    async def written_by(self) -> dict[str, int]:
        """Return which transaction wrote each event."""


class OurRows:
    """The rows that listeners store from now on, of events that the producer accepts."""

    def __init__(self, bed: Bed, after: int) -> None:
        self._bed = bed
        self._after = after
        self.door = Door(*bed.publisher.address)

    async def arrived(self, count: int) -> None:
        """Wait until so many events are rows."""
        while await self._bed.reports.count_after(self._after) < count:  # noqa: ASYNC110  other processes write them
            await asyncio.sleep(LOOK)

    async def written_by(self) -> dict[str, int]:
        """Return which transaction wrote each event."""
        return await self._bed.reports.transactions_after(self._after)


async def published_to_visible(
    bed: Bed, *, rate: int, seconds: float, children: Sequence[Child] = (), changed: Change | None = None
) -> Latencies:
    """Publish at an even rate to listeners, and take looks at the table all the time.

    ``children``: the listeners; none: one without a handler. Events that are ``changed`` do not count: they become no
    rows.
    """
    await bed.forget_rows()
    await bed.begin_here()
    children = children or bed.system.listeners[:1]
    for child in children:
        child.start()
    try:
        await bed.met(children)
        rows = OurRows(bed, await bed.reports.newest())
        return await seen(bed, rows, rate=rate, seconds=seconds, changed=changed)
    finally:
        for child in children:
            await asyncio.to_thread(child.stop)


async def seen(
    bed: Bed,
    rows: Rows,
    *,
    rate: int,
    seconds: float,
    warm_seconds: float = WARM_SECONDS,
    changed: Change | None = None,
) -> Latencies:
    """Publish at an even rate to whatever stores the events, and take looks at the table all the time."""
    run, warm, limit = bed.new_run(), round(rate * warm_seconds), SETTLE + warm_seconds + seconds
    count = warm + round(rate * seconds)
    lines = [event(number, run, 300) for number in range(count)]
    sending = [changed(number, line) for number, line in enumerate(lines)] if changed else lines
    counts = [one == other for one, other in zip(lines, sending, strict=True)]
    async with asyncio.timeout(limit), looking(bed, limit) as looks:
        sent = await _sent(rows.door, sending, rate)
        await asyncio.sleep(MOMENT)
        await rows.arrived(sum(counts))
    visible = visible_at(await looks, await rows.written_by())
    measured = [number for number in range(warm, count) if counts[number]]
    return percentiles([visible[f"{run}-{number:08}"] - sent[number] for number in measured])


async def _sent(door: Door, lines: Sequence[bytes], rate: int) -> list[float]:
    """Publish at an even rate; after all responses, return the time at which each should have been sent."""
    paced = await asyncio.to_thread(PacedPublisher, door)
    try:
        return await asyncio.to_thread(paced.send, lines, rate)
    finally:
        paced.close()


@contextlib.asynccontextmanager
async def looking(bed: Bed, limit: float) -> AsyncIterator[asyncio.Task[list[asyncpg.Record]]]:
    """Take looks within the block, and one more at its end."""
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


def visible_at(looks: Iterable[asyncpg.Record], written_by: Mapping[str, int]) -> dict[str, float]:
    """When each event became visible, by the looks and by the transaction that wrote it."""
    seen = became_visible([(look["snapshot"], look["at"]) for look in looks], set(written_by.values()))
    return {event_id: seen[transaction] for event_id, transaction in written_by.items()}


def became_visible(looks: Iterable[tuple[str, float]], transactions: Iterable[int]) -> dict[int, float]:
    """When each transaction became visible: midway between the last look without it and the first look with it.

    Looks are pairs of snapshot and time, in order.
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


async def floor(bed: Bed, *, times: int, rate: int | None = None, warm: int = WARM_TIMES) -> Latencies:
    """Measure one hop, one round trip and one commit in a row, repeatedly: back to back, or at an even rate.

    At a rate, events that should have been sent during a slow one are counted as if they had waited for it. A loop that
    sends the next event only after the last one would hide stalls of the machine (coordinated omission). A stall would
    delay only one event, where at that rate it delays many.
    """

    line = event(0, "floor", 300).decode()
    payload = json.dumps(json.loads(line)["payload"])
    await bed.connection.execute("create table if not exists floor_events (id text primary key, payload jsonb)")
    async with _echo() as url, connect(url, compression=None, proxy=None) as stream:
        took: list[float] = []
        began = time.perf_counter()
        while len(took) < warm + times:
            started = time.perf_counter()
            if rate and (due := began + len(took) / rate) > started:
                wait_until(due)  # nothing else runs here
                started = due
            back = await _once(stream, bed.redis, bed.connection, line, f"{len(took)}", payload)
            took.append(time.perf_counter() - started - back)
            if rate:
                took += missed(took[-1], 1 / rate)
    await bed.connection.execute("drop table floor_events")
    return percentiles(took[warm:])


def missed(took: float, interval: float) -> list[float]:
    """The times that events would have taken that should have been sent during one that took so long."""
    return [took - interval * number for number in range(1, math.ceil(took / interval))]


@contextlib.asynccontextmanager
async def _echo() -> AsyncIterator[str]:
    """Run the other end of a hop, which is another process."""
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
    """Do all three; return the time of the echo's way back, which a one-way hop does not have."""
    started = time.perf_counter()
    await stream.send(line)
    await stream.recv()
    back = (time.perf_counter() - started) / 2
    await redis.set(f"floor:{key}", "me", nx=True, ex=30)
    await connection.execute("insert into floor_events values ($1, $2)", key, payload)
    return back
