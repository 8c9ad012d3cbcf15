"""A long load at an even rate: whether memory, descriptors, processor time or latency grow with time.

Two listeners with a handler store what a process of its own publishes, one event a request. The time is cut into
windows. Each has percentiles of its own, and ends with a look at memory, descriptors and processor time.
"""

import asyncio
import contextlib
import math
import statistics
import sys
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import psutil

from unlost.ops.bench import processor
from unlost.ops.bench.bed import LOOK, WAIT, Bed
from unlost.ops.bench.figures import Latencies, percentiles
from unlost.ops.bench.handlers import INSTANT
from unlost.ops.bench.latency import MOMENT, SETTLE, floor, looking, visible_at
from unlost.ops.bench.load import scattered
from unlost.ops.system.child import Child

LISTENERS = 2
WINDOW = 8.0
"""Seconds whose events are measured together."""
LEAST_WINDOWS = 3
LEAD = 0.5
"""Events of a window are sent so much later than it begins, so that looks are taken by then."""
WARM = 10.0
"""Seconds before the first window: processes that have just started are slower."""
FLOOR_RATE = 100
HOUR = 3_600


@dataclass(frozen=True, slots=True)
class Window:
    """The figures of one window. Sizes are those at its end. Costs are processor µs per event, by process."""

    at: float
    """Seconds since the first window began."""
    events: int
    """How many events had been published at its end."""
    latency: Latencies
    floor: Latencies
    """A hop, a round trip and a commit, measured in the same window: what other work of the machine does to both."""
    listener_mb: float
    producer_mb: float
    descriptors: int
    redis_bytes: int
    costs: Mapping[str, float]


@dataclass(slots=True)
class Soak:
    """All windows of a soak, and what follows from them."""

    rate: int
    windows: list[Window] = field(default_factory=list)

    def thirds(self, of: Callable[[Window], float]) -> list[float]:
        """Return the medians of the first, the middle and the last third of the windows."""
        third, more = divmod(len(self.windows), 3)
        ends = [third, 2 * third + more]
        parts = self.windows[: ends[0]], self.windows[ends[0] : ends[1]], self.windows[ends[1] :]
        return [statistics.median(map(of, part)) for part in parts]

    def slope(self, of: Callable[[Window], float], against: Callable[[Window], float]) -> float:
        """Return by how much one figure grows with another, by least squares."""
        return statistics.linear_regression([*map(against, self.windows)], [*map(of, self.windows)]).slope

    @property
    def slopes(self) -> dict[str, float]:
        """The growth of each figure."""

        def hours(window: Window) -> float:
            return window.at / HOUR

        return {
            "largest listener, MB an hour": self.slope(lambda one: one.listener_mb, hours),
            "producer, MB an hour": self.slope(lambda one: one.producer_mb, hours),
            "descriptors an hour": self.slope(lambda one: one.descriptors, hours),
            "Redis, bytes an event": self.slope(lambda one: one.redis_bytes, lambda one: one.events),
            "p99, ms an hour": self.slope(lambda one: one.latency.p99, hours),
        }

    @property
    def courses(self) -> dict[str, list[float]]:
        """The medians of each third."""
        return {
            "p50, ms": self.thirds(lambda one: one.latency.p50),
            "p99, ms": self.thirds(lambda one: one.latency.p99),
            "p99 : hop + round trip + commit": self.thirds(lambda one: one.latency.p99 / one.floor.p99),
        } | {
            f"{name}, processor µs an event": self.thirds(lambda one, name=name: one.costs[name])  # type: ignore[misc]
            for name in self.windows[0].costs
        }

    @property
    def drift(self) -> float:
        """How many times the floor of its window p99 is in the last third : in the first.

        So a machine that is slower in one third does not count.
        """
        first, _, last = self.thirds(lambda one: one.latency.p99 / one.floor.p99)
        return last / first

    def as_json(self) -> dict[str, Any]:
        """The values as JSON."""
        return {
            "rate": self.rate, "slopes": self.slopes, "thirds": self.courses,
            "windows": [asdict(one) for one in self.windows],
        }  # fmt: skip


class Processes:
    """The processes of a soak, whose sizes and processor time are looked at."""

    def __init__(self, bed: Bed, listeners: Sequence[Child]) -> None:
        postgres, valkey, producer = bed.server_pids
        self._listeners = [psutil.Process(child.pid) for child in listeners]
        self._producer = psutil.Process(producer)
        self._pids = {
            "listeners": [child.pid for child in listeners], "producer": [producer], "PostgreSQL": [postgres],
            "Redis": [valkey],
        }  # fmt: skip

    def used(self) -> dict[str, float]:
        """Processor seconds used so far, by process."""
        return {name: processor.seconds(pids, self_too=False) for name, pids in self._pids.items()}

    def megabytes(self) -> tuple[float, float]:
        """The largest listener's resident memory, and that of the producer with its own processes."""
        producer = (self._producer, *self._producer.children(recursive=True))
        return max(map(_megabytes, self._listeners)), sum(map(_megabytes, producer))

    def descriptors(self) -> int:
        """How many descriptors listeners and producer have open."""
        return sum(one.num_fds() for one in (*self._listeners, self._producer))


def _megabytes(process: psutil.Process) -> float:
    return float(process.memory_info().rss) / 1e6


async def soak(bed: Bed, *, minutes: float, rate: int, say: Callable[[str], None]) -> Soak:
    """Publish for so many minutes, and print each window. Raises ``RuntimeError`` if a row is missing or too many."""
    await bed.forget_rows()
    await bed.begin_here()
    system, run, found = bed.system, bed.new_run(), Soak(rate)
    children = system.layout.with_settings(HANDLER=INSTANT).listeners(system.database_url, system.redis_url)[:LISTENERS]
    for child in children:
        child.start()
    try:
        await bed.met(children)
        base, processes = await bed.reports.newest(), Processes(bed, children)
        async with _published(bed, rate, run) as steady:
            await asyncio.sleep(min(WARM, minutes * 60))
            started, each = time.time(), min(WINDOW, minutes * 60 / LEAST_WINDOWS)
            while len(found.windows) < LEAST_WINDOWS or time.time() - started < minutes * 60:
                found.windows.append(await _window(bed, processes, steady, started, each))
                say(_line(found.windows[-1]))
        await _audit(bed, base, steady.count)
    finally:
        for child in children:
            await asyncio.to_thread(child.stop)
    return found


@dataclass(slots=True)
class Steady:
    """Events that are being published: the time of the first one, their rate, the prefix of their ids."""

    began: float
    rate: int
    run: str
    count: int = 0
    """How many there were, once it has ended."""

    def scheduled_by(self, at: float) -> int:
        """How many events are scheduled before this time."""
        return math.ceil((at - self.began) * self.rate)

    def scheduled(self, number: int) -> float:
        """When the event with this number is scheduled."""
        return self.began + number / self.rate


@contextlib.asynccontextmanager
async def _published(bed: Bed, rate: int, run: str) -> AsyncIterator[Steady]:
    """Publish at an even rate within the block."""
    host, port = bed.publisher.address
    arguments = host, str(port), str(rate), run
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "unlost.ops.bench.steady", *arguments, stdin=pipe, stdout=pipe
    )
    assert process.stdin
    assert process.stdout
    try:
        steady = Steady(float(await process.stdout.readline()), rate, run)
        yield steady
        process.stdin.close()
        steady.count = int(await asyncio.wait_for(process.stdout.readline(), WAIT))
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _written(bed: Bed, after: int, wanted: Collection[str]) -> dict[str, int]:
    """Wait until these events are rows; return which transaction wrote each."""
    deadline = time.monotonic() + SETTLE
    while len(found := await _transactions(bed, after, wanted)) < len(wanted):
        if time.monotonic() > deadline:
            raise RuntimeError(
                f"{len(wanted) - len(found):,} of {len(wanted):,} events are no rows {SETTLE:.0f} s after they were "
                "published: this machine does too much other work for the rate, so choose a lower --soak-rate"
            )
        await asyncio.sleep(LOOK)
    return found


async def _transactions(bed: Bed, after: int, wanted: Collection[str]) -> dict[str, int]:
    written_by = await bed.reports.transactions_after(after)
    return {event_id: written_by[event_id] for event_id in wanted if event_id in written_by}


async def _window(bed: Bed, processes: Processes, steady: Steady, started: float, seconds: float) -> Window:
    """Measure the events of one window."""
    after, limit, before = await bed.reports.newest() - steady.rate, seconds + 2 * SETTLE, processes.used()
    first = steady.scheduled_by(began := time.time())
    counted = steady.scheduled_by(began + LEAD)
    last = counted + round(seconds * steady.rate)
    wanted = {scattered(number, steady.run): number for number in range(counted, last)}
    async with asyncio.timeout(limit), looking(bed, limit) as looks:
        least = await floor(bed, times=round(seconds * FLOOR_RATE), rate=FLOOR_RATE, warm=round(LEAD * FLOOR_RATE))
        await asyncio.sleep(max(0.0, steady.scheduled(last) + MOMENT - time.time()))
        used, there = processes.used(), steady.scheduled_by(time.time())
        written_by = await _written(bed, after, wanted)
    visible = visible_at(await looks, written_by)
    seen = percentiles([at - steady.scheduled(wanted[event_id]) for event_id, at in visible.items()])
    events = there - first
    costs = {name: (now - before[name]) / events * 1e6 for name, now in used.items()}
    memory = await bed.redis.info("memory")
    return Window(
        time.time() - started,
        there,
        seen,
        least,
        *processes.megabytes(),
        processes.descriptors(),
        memory["used_memory"],
        costs,
    )


def _line(one: Window) -> str:
    costs = "  ".join(f"{name} {cost:.0f}" for name, cost in one.costs.items())
    return (
        f"{one.at / 60:>6.1f} min{one.latency.p50:>8.1f}{one.latency.p99:>8.1f} ms (floor {one.floor.p99:.1f})"
        f"{one.listener_mb:>8.1f}{one.producer_mb:>8.1f} MB{one.descriptors:>6} descriptors"
        f"{one.redis_bytes / 1e6:>8.1f} MB in Redis  µs: {costs}"
    )


async def _audit(bed: Bed, base: int, count: int) -> None:
    async with asyncio.timeout(WAIT):
        while await bed.reports.count_after(base) < count:  # noqa: ASYNC110  other processes write them
            await asyncio.sleep(LOOK)
    if (found := await bed.reports.distinct_after(base)) != (count, count):
        raise RuntimeError(f"{count:,} rows were expected, and there are {found[0]:,}")
