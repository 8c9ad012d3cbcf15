"""Many listeners, and listeners without Redis: each beside one or two with everything, with a handler and without."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from unlost.ops.bench.bed import Bed
from unlost.ops.bench.figures import Measured
from unlost.ops.bench.handlers import INSTANT
from unlost.ops.bench.load import events
from unlost.ops.bench.results import Results

MANY = (1, 4, 16)
HANDLERS = {"": "", ", handler 0 ms": INSTANT}
"""Added to the name of a figure, and the handler."""


@dataclass(frozen=True, slots=True)
class Load:
    """The handler, and the number and size of the events."""

    handler: str
    count: int
    size: int


async def stored(bed: Bed, listeners: int, load: Load) -> Measured:
    """Measure so many listeners with this handler, on ports of their own."""
    await bed.forget_rows()
    return await _stored(bed, listeners, load)


async def without_redis(bed: Bed, listeners: int, load: Load) -> Measured:
    """Measure the same while Redis is away."""
    await bed.forget_rows()
    async with _redis_away(bed):
        return await _stored(bed, listeners, load)


async def _stored(bed: Bed, listeners: int, load: Load) -> Measured:
    system = bed.system
    layout = system.layout.with_settings(HANDLER=load.handler).with_listeners(listeners)
    children = layout.listeners(system.database_url, system.redis_url)
    return await bed.stored(children, events(load.count, bed.new_run(), load.size), load.count)


@contextlib.asynccontextmanager
async def _redis_away(bed: Bed) -> AsyncIterator[None]:
    await asyncio.to_thread(bed.system.valkey.stop)
    try:
        yield
    finally:
        bed.system.valkey.start()  # in this thread: a child ends with the thread that started it


async def measure(bed: Bed, results: Results, *, count: int, size: int, rounds: int) -> None:
    """Measure all of them, round by round, since the machine changes."""
    for about, handler in HANDLERS.items():
        many: dict[int, list[Measured]] = {listeners: [] for listeners in MANY}
        two: list[Measured] = []
        away: list[Measured] = []
        load = Load(handler, count, size)
        for _ in range(rounds):
            for listeners, taken in many.items():
                taken.append(await stored(bed, listeners, load))
            two.append(await stored(bed, 2, load))
            away.append(await without_redis(bed, 2, load))
        for listeners, taken in many.items():
            results.keep(f"{listeners} listener{'s' * (listeners > 1)}{about}", taken)
        results.keep(f"two listeners beside that{about}", two)
        results.keep(f"two listeners without Redis{about}", away)
        suffix = "_handled" if handler else ""
        results.compare(f"many_listeners{suffix}", *([one.rate for one in many[n]] for n in (MANY[-1], 1)))
        results.compare(f"without_redis{suffix}", *([one.rate for one in taken] for taken in (away, two)))
