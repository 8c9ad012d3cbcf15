"""Measures the pipeline, from the journal to rows by real listener processes, and what people write by hand."""

import asyncio
import random
import sys

from unlost.ops.bench.bed import Bed
from unlost.ops.bench.figures import Measured
from unlost.ops.bench.load import events, with_duplicates

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
