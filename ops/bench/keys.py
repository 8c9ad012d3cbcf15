"""Order per key: even keys, keys as Zipf(1.0) spreads them, and one hot key, without a handler and in a transaction.

Beside each stand the same events without order, and one connection that stores them one after another, each with its
commit: no order of one key can be kept faster by separate transactions.
"""

import asyncio
import random
import statistics
import time
from collections.abc import Mapping, Sequence

import psutil

from unlost.ops.bench import handlers, latency
from unlost.ops.bench.bed import Bed
from unlost.ops.bench.figures import Latencies, Measured
from unlost.ops.bench.load import even, keyed, zipf
from unlost.ops.system.child import Child

DISTINCT = 1_000_000
"""So many keys, each with one event, pass through a listener as in a day."""
PART = 100_000
"""The memory is read after so many more keys."""
KEYS = 10_000
RATE = 1_000
ORDER = {"ORDER_BY": "payload.user"}
HANDLERS = ("none", "transaction")
EVEN, ZIPF, HOT = "10,000 keys", "Zipf(1.0)", "one hot key"
UNORDERED, SERIAL = "without order", "one connection in a row"
SERIAL_EVENTS = 3_000
"""So many are enough to know the rate of one connection."""


def named(handler: str, form: str) -> str:
    """Return the name of a figure."""
    return f"{'rows' if handler == 'none' else handler}, {form}"


def _keys(form: str, count: int) -> list[int]:
    if form == HOT:
        return [0] * count
    return zipf(count, KEYS, random.Random(count)) if form == ZIPF else even(count, KEYS)  # noqa: S311


def _child(bed: Bed, handler: str, settings: Mapping[str, str]) -> Child:
    if handler != "none":
        return handlers.child_with(bed, handler, **settings)
    system = bed.system
    return system.layout.with_settings(**settings).listeners(system.database_url, system.redis_url)[0]


async def stored(bed: Bed, handler: str, form: str, *, count: int) -> Measured:
    """Measure one listener with these keys, or without order."""
    await handlers.counters(bed)
    await bed.forget_rows()
    lines = keyed(_keys(form, count), bed.new_run(), 300)
    return await bed.stored([_child(bed, handler, {} if form == UNORDERED else ORDER)], lines, count)


async def in_a_row(bed: Bed, handler: str, *, count: int) -> Measured:
    """Measure one connection that stores one event after another, each with its commit, and nothing else."""
    await handlers.counters(bed)
    await bed.connection.execute("drop table if exists by_hand")
    await bed.reports.table_like()
    lines = keyed(_keys(HOT, min(count, SERIAL_EVENTS)), bed.new_run(), 300)
    started = time.perf_counter()
    await handlers.store_all(bed.connection, lines, works=handler != "none")
    return Measured(len(lines), time.perf_counter() - started)


async def measure(bed: Bed, *, count: int, rounds: int, chosen: Sequence[str]) -> Mapping[str, list[Measured]]:
    """Measure all forms, round by round, since the machine changes."""
    taken: dict[str, list[Measured]] = {}
    for handler in [one for one in HANDLERS if one in chosen]:
        some = count if handler == "none" else count // 4
        for _ in range(rounds):
            for form in (UNORDERED, EVEN, ZIPF, HOT):
                taken.setdefault(named(handler, form), []).append(await stored(bed, handler, form, count=some))
            taken.setdefault(named(handler, SERIAL), []).append(await in_a_row(bed, handler, count=some))
    return taken


async def latencies(bed: Bed, *, seconds: float, rounds: int) -> Mapping[str, list[Latencies]]:
    """Measure the time to a visible row with 997 keys and without order, in turn."""
    taken: dict[str, list[Latencies]] = {}
    for _ in range(rounds):
        for name, settings in ((f"{RATE:,}/s {UNORDERED}", {}), (f"{RATE:,}/s in order", ORDER)):
            child = _child(bed, "none", settings)
            found = await latency.published_to_visible(bed, rate=RATE, seconds=seconds, children=[child])
            taken.setdefault(name, []).append(found)
    return taken


async def memory(bed: Bed, *, keys: int = DISTINCT, part: int = PART) -> list[float]:
    """Return the resident MB of one listener after each part of so many distinct keys."""
    await bed.forget_rows()
    await bed.begin_here()
    child, run, found = _child(bed, "none", ORDER), bed.new_run(), list[float]()
    child.start()
    try:
        for first in range(0, keys, part):
            numbers = range(first, min(first + part, keys))
            await bed.publish(keyed(numbers, f"{run}{first}", 300))
            await bed.rows(numbers[-1] + 1)
            found.append(psutil.Process(child.pid).memory_info().rss / 1e6)
    finally:
        await asyncio.to_thread(child.stop)
    return found


def memory_ratio(sizes: Sequence[float]) -> float:
    """Return the largest size of the second half to that of the first half. One moment may be high by itself."""
    middle = len(sizes) // 2
    return max(sizes[middle:]) / max(sizes[:middle])


def ratios(taken: Mapping[str, Sequence[Measured]]) -> dict[str, float]:
    """Return the ratios that have bars, each the median of all rounds."""
    found: dict[str, float] = {}
    for handler, name in zip(HANDLERS, ("rows", "transactions"), strict=True):
        if named(handler, EVEN) in taken:
            found[f"even_keys_{name}"] = _ratio(taken[named(handler, EVEN)], taken[named(handler, UNORDERED)])
            found[f"hot_key_{name}"] = _ratio(taken[named(handler, HOT)], taken[named(handler, SERIAL)])
    return found


def _ratio(ours: Sequence[Measured], others: Sequence[Measured]) -> float:
    return statistics.median(one.rate / other.rate for one, other in zip(ours, others, strict=True))


def latency_ratio(taken: Mapping[str, Sequence[Latencies]]) -> float:
    """Return the median ratio of the 99th percentiles, with order to without."""
    without, ordered = taken.values()
    return statistics.median(one.p99 / other.p99 for one, other in zip(ordered, without, strict=True))
