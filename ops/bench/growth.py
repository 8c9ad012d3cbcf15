"""Measures growth: with more rows, Redis keys and waiting events, time and memory must not grow too."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import psutil

from unlost.listener.store.postgres.reports import Reports
from unlost.ops.bench import pipeline, processor
from unlost.ops.bench.bed import WARMING, Bed
from unlost.ops.bench.figures import Measured
from unlost.ops.bench.handlers import INSTANT, child_of
from unlost.ops.bench.load import LINES, event, events
from unlost.ops.bench.results import Results
from unlost.ops.system.child import Child

FILL_AT_ONCE = 500_000
WATCH_SECONDS = 20.0
SETTLE_SECONDS = 5.0
"""After its first event, a listener still reports the group's cursor."""
IDLE_SECONDS = 15.0
WAITING = 1_000_000
IDLE_LISTENERS = 10
IDLE = ("idle listener, processor ms/s", "idle listener, MB", "servers for ten idle listeners, processor ms/s")


async def measure(bed: Bed, results: Results, *, count: int, size: int) -> None:
    """Measure what a full run measures of growth."""
    # Idle listeners come first: after a million rows, PostgreSQL is busy for a while.
    for name, found in zip(IDLE, await idle(bed, listeners=IDLE_LISTENERS), strict=True):
        results.keep_amount(name, found)
    ended = await pipeline.stored(bed, listeners=1, count=WAITING, size=size, duplicates=0)
    results.keep(f"catching up with {WAITING:,}", [ended])
    rounds = [one async for one in at_rows(bed, 10_000_000, count=count)]
    for name, one in zip(("empty table", "10 million rows"), rounds, strict=True):
        results.keep(name, [one])
    for name, child in (("memory_mb", bed.system.listeners[0]), ("memory_mb_handled", child_of(bed, INSTANT))):
        await bed.forget_rows()
        results.keep_amount(name, await memory_without_postgres(bed, child, waiting=WAITING))


async def redis_bytes(bed: Bed, child: Child, *, count: int) -> float:
    """Measure the bytes of Redis per settled event, with this listener."""
    await bed.forget_rows()
    await bed.redis.execute_command("MEMORY", "PURGE")  # type: ignore[no-untyped-call]
    before = (await bed.redis.info("memory"))["used_memory"]
    await bed.stored([child], events(count, bed.new_run(), 300), count)
    after = (await bed.redis.info("memory"))["used_memory"]
    return float(after - before) / (count + WARMING)


async def at_rows(bed: Bed, rows: int, *, count: int) -> AsyncIterator[Measured]:
    """Measure the pipeline on an empty table, and on one with so many rows."""
    yield await pipeline.stored(bed, listeners=1, count=count, size=300, duplicates=0)
    reports = Reports(bed.connection, timeout=600)
    for first in range(0, rows, FILL_AT_ONCE):
        await reports.fill(first, min(rows, first + FILL_AT_ONCE) - 1)
    await reports.analyze_rows()
    await bed.keep_rows()
    yield await pipeline.into_table(bed, listeners=1, count=count, size=300)


async def idle(bed: Bed, *, listeners: int) -> tuple[float, float, float]:
    """Measure idle listeners: processor ms/s of each, MB of the largest, and processor ms/s of all servers."""
    children = bed.system.layout.with_listeners(listeners).listeners(bed.system.database_url, bed.system.redis_url)
    try:
        for child in children:
            child.start()
        await bed.publish(events(1, bed.new_run(), 300))
        await bed.rows(1)
        await asyncio.sleep(SETTLE_SECONDS)
        before = _used(children), processor.seconds(bed.server_pids, self_too=False)
        await asyncio.sleep(IDLE_SECONDS)
        after = _used(children), processor.seconds(bed.server_pids, self_too=False)
        size = max(psutil.Process(child.pid).memory_info().rss / 1e6 for child in children)
    finally:
        for child in children:
            await asyncio.to_thread(child.stop)
    each, servers = ((b - a) * 1_000 / IDLE_SECONDS for a, b in zip(before, after, strict=True))
    return each / listeners, size, servers


def _used(children: Sequence[Child]) -> float:
    return processor.seconds([child.pid for child in children], self_too=False)


async def memory_without_postgres(bed: Bed, child: Child, *, waiting: int) -> float:
    """Measure the peak memory (MB) of this listener while so many events wait and PostgreSQL is frozen."""
    await bed.begin_here()
    child.start()
    try:
        await bed.publish(events(1, bed.new_run(), 300))
        await bed.rows(1)
        bed.system.postgres.child.freeze()
        run = bed.new_run()
        for first in range(0, waiting, LINES * 10):
            await bed.publish([event(number, run, 300) for number in range(first, min(waiting, first + LINES * 10))])
        await asyncio.sleep(WATCH_SECONDS)
        return _most_memory(child.pid)
    finally:
        bed.system.postgres.child.thaw()
        await asyncio.to_thread(child.stop)


def _most_memory(pid: int | None) -> float:
    """The peak resident memory in MB, as Linux reports it."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) * 1024 / 1e6
