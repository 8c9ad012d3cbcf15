"""Measures the pipeline, from the journal to rows by real listener processes, and what people write by hand."""

import asyncio
import random
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from unlost.ops.bench.bed import Bed
from unlost.ops.bench.figures import Measured
from unlost.ops.bench.load import events, with_duplicates
from unlost.ops.bench.loops import TABLE
from unlost.ops.system.nats import NatsServer, program

LOOP_SPAN = "select extract(epoch from max(processed_at) - min(received_at))::float8, count(*) from loop_events"


async def stored(bed: Bed, *, listeners: int, count: int, size: int, duplicates: float) -> Measured:
    """Measure listeners that store events, with a share of duplicates, into an empty table."""
    await bed.forget_rows()
    return await into_table(bed, listeners=listeners, count=count, size=size, duplicates=duplicates)


async def into_table(bed: Bed, *, listeners: int, count: int, size: int, duplicates: float = 0.0) -> Measured:
    """Measure the same with the table as it is."""
    distinct = events(count, bed.new_run(), size)
    lines = with_duplicates(distinct, duplicates, random.Random(count)) if duplicates else distinct  # noqa: S311
    return await bed.stored(bed.system.listeners[:listeners], lines, count)


async def loop(bed: Bed, form: str, *, count: int, size: int) -> Measured:
    """Measure a usual hand-written loop in a process of its own, like a listener."""
    url = await bed.stream_from_here()
    await bed.publish(events(count, bed.new_run(), size))
    await bed.connection.execute("drop table if exists loop_events")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "unlost.ops.bench.loops",
        form,
        url,
        bed.system.redis_url,
        bed.system.database_url,
        str(count),
    )
    if await process.wait():
        raise RuntimeError(f"the {form} loop ended with code {process.returncode}")
    row = await bed.connection.fetchrow(LOOP_SPAN)
    assert row
    if row[1] != count:
        raise RuntimeError(f"the {form} loop stored {row[1]:,} of {count:,} events")
    return Measured(count, row[0])


WORKERS = 2
LOOK = 0.05


def has_queue() -> bool:
    """Whether the queue by hand can be measured: its client and its server are installed (the extra ``bench``)."""
    return find_spec("nats") is not None and program() is not None


async def queue(bed: Bed, *, count: int, size: int, syncs: bool) -> Measured:
    """Measure workers by hand on a queue that holds all events: from the first one received to the last row."""
    await bed.connection.execute("drop table if exists loop_events")
    await bed.connection.execute(TABLE)
    with tempfile.TemporaryDirectory(prefix="unlost-bench-nats-") as directory:
        server = NatsServer(Path(directory), syncs=syncs)
        await asyncio.to_thread(server.start)
        try:
            await _fill(f"nats://{server.host}", events(count, bed.new_run(), size))
            return await _worked(bed, f"nats://{server.host}", count)
        finally:
            await asyncio.to_thread(server.stop)


async def _fill(url: str, lines: list[bytes]) -> None:
    import nats

    from unlost.ops.bench import rivals

    client = await nats.connect(url)
    stream = client.jetstream(publish_async_max_pending=rivals.UNDER_WAY)
    await stream.add_stream(name=rivals.STREAM, subjects=[rivals.SUBJECT])
    for line in lines:
        await stream.publish_async(rivals.SUBJECT, line)
    await stream.publish_async_completed()
    await stream.add_consumer(rivals.STREAM, rivals.CONSUMER)
    await client.close()


async def _worked(bed: Bed, url: str, count: int) -> Measured:
    command = (sys.executable, "-m", "unlost.ops.bench.rivals", url, bed.system.database_url)
    workers = [await asyncio.create_subprocess_exec(*command) for _ in range(WORKERS)]
    try:
        while await bed.connection.fetchval("select count(*) from loop_events") < count:
            if any(one.returncode is not None for one in workers):
                raise RuntimeError("a worker by hand ended before all events were rows")
            await asyncio.sleep(LOOK)
    finally:
        for one in workers:
            if one.returncode is None:
                one.kill()
            await one.wait()
    row = await bed.connection.fetchrow(LOOP_SPAN)
    assert row
    return Measured(count, row[0])
