"""Structured payloads of 4 and 16 kB: the pipeline beside a bare insert of the same bytes."""

import asyncio
import time
from collections.abc import Sequence

import asyncpg

from unlost.ops.bench import processor
from unlost.ops.bench.bed import WAIT, Bed
from unlost.ops.bench.figures import Measured
from unlost.ops.bench.handlers import INSTANT, child_of
from unlost.ops.bench.load import structured
from unlost.ops.bench.results import Results
from unlost.ops.bench.rivals.rows import INSERT, TABLE, decode

SIZES = {"4k": 4_000, "16k": 16_000}
BYTES = 80_000_000
"""All events of a round together: fewer events are measured if they are larger."""
BATCH, CONNECTIONS = 512, 2


async def measure(bed: Bed, results: Results, *, count: int, rounds: int) -> None:
    """Measure the pipeline without and with a handler, and the bare insert, in turn."""
    for name, size in SIZES.items():
        some = min(count, BYTES // size)
        plain: list[Measured] = []
        handled: list[Measured] = []
        bare: list[Measured] = []
        for _ in range(rounds):
            for handler, taken in (("", plain), (INSTANT, handled)):
                await bed.forget_rows()
                lines = structured(some, bed.new_run(), size)
                taken.append(await bed.stored([child_of(bed, handler)], lines, some))
            bare.append(await inserted(bed, structured(some, bed.new_run(), size)))
        results.keep(f"pipeline, {name}B structured", plain)
        results.keep(f"the same, handler 0 ms, {name}B", handled)
        results.keep(f"bare insert, {name}B structured", bare)
        for ratio, taken in ((f"size_{name}", plain), (f"size_{name}_handled", handled)):
            results.compare(ratio, [one.rate for one in taken], [one.rate for one in bare])


async def inserted(bed: Bed, lines: list[bytes]) -> Measured:
    """Measure two connections that insert events from memory, decoded before, in batches."""
    await bed.connection.execute("drop table if exists loop_events")
    await bed.connection.execute(TABLE)
    await bed.connection.execute("checkpoint", timeout=WAIT)
    rows = [decode(line) for line in lines]
    columns: Sequence[Sequence[str | None]] = (
        [one.event_id for one in rows], [one.type for one in rows], [one.text for one in rows],
    )  # fmt: skip
    firsts = iter(range(0, len(rows), BATCH))
    connections = [await asyncpg.connect(bed.system.database_url) for _ in range(CONNECTIONS)]

    async def work(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        for first in firsts:
            await connection.execute(INSERT, *(one[first : first + BATCH] for one in columns), time.time())

    used, started = processor.Used(bed.server_pids), time.perf_counter()
    await asyncio.gather(*map(work, connections))
    measured = Measured(len(rows), time.perf_counter() - started, servers=used.seconds())
    for one in connections:
        await one.close()
    await bed.connection.execute("drop table loop_events")
    return measured
