"""Unlost beside what experts write by hand: events a second, processor time, latency, and what each promises."""

import asyncio
import contextlib
import random
import statistics
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from unlost.ops.bench import latency, pipeline, processor
from unlost.ops.bench.bed import LOOK, WAIT, Bed
from unlost.ops.bench.figures import Latencies, Measured
from unlost.ops.bench.load import events, with_duplicates
from unlost.ops.bench.pacing import Door
from unlost.ops.bench.queues import Opened, Queue, has_faststream, has_nats, nats_queue, our_stream, redis_stream
from unlost.ops.bench.rivals.rows import TABLE, WITHOUT_KEY

SPAN = "select extract(epoch from max(processed_at) - min(received_at))::float8, count(*) from loop_events"
WRITTEN_BY = "select event_id, xmin::text::bigint from loop_events"
COUNT = "select count(*) from loop_events"
EMPTY = "drop table if exists loop_events"
ONE, TWO = "Unlost, one listener", "Unlost, two listeners"
OURS: Mapping[str, int] = {ONE: 1, TWO: 2}
COPIED = "COPY of our stream by hand"


SHORT = ("FastStream on Redis Streams", "batch loop by hand on our stream", COPIED)
"""Those whose programs a quick run tries too."""


@dataclass(frozen=True, slots=True)
class Rival:
    """Workers by hand: where their events come from, and whether the libraries for it are installed."""

    opened: Opened
    is_installed: Callable[[], bool] = lambda: True
    keyed: bool = True
    """Whether the table has a primary key."""


NATS = "NATS push queue + unnest by hand"
RIVALS: Mapping[str, Rival] = {
    NATS: Rival(nats_queue(syncs=False), has_nats),
    f"{NATS}, fsync": Rival(nats_queue(syncs=True), has_nats),
    "FastStream on Redis Streams": Rival(redis_stream(syncs=False), has_faststream),
    "FastStream on Redis Streams, fsync": Rival(redis_stream(syncs=True), has_faststream),
    "batch loop by hand on our stream": Rival(our_stream("unnest")),
    COPIED: Rival(our_stream("copy"), keyed=False),
}
_KEY = "one row for each id"
PROMISES: Mapping[str, str] = {
    ONE: "all: one row or one letter for each event, takeover, dedup, replay",
    TWO: "the same, and either may die",
    NATS: f"{_KEY}; redelivery after 30 s; NATS may lose what it accepted in the last 2 minutes",
    f"{NATS}, fsync": f"{_KEY}; redelivery after 30 s",
    "FastStream on Redis Streams": f"{_KEY}; redelivery by hand; Redis may lose what it accepted in the last second",
    "FastStream on Redis Streams, fsync": f"{_KEY}; redelivery by hand",
    "batch loop by hand on our stream": f"{_KEY}; a restart begins anew",
    COPIED: "none",
}
"""What each guarantees to its users."""


@dataclass(slots=True)
class Taken:
    """All rounds of one row of the table."""

    backlog: list[Measured] = field(default_factory=list)
    seen: list[Latencies] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Load:
    """What everybody gets: a backlog with some duplicates, then events at an even rate."""

    count: int
    size: int
    rate: int
    seconds: float
    warm_seconds: float = latency.WARM_SECONDS
    duplicates: float = 0.1


async def measure(bed: Bed, load: Load, *, rounds: int, say: Callable[[str], None]) -> Mapping[str, Taken]:
    """Measure everybody in turn, round by round, since the machine changes."""
    taken = {name: Taken() for name in (*OURS, *installed(RIVALS, say))}
    for _ in range(rounds):
        for name in taken:
            if name in RIVALS:
                await by_hand(bed, RIVALS[name], load, taken[name])
            else:
                await ours(bed, OURS[name], load, taken[name])
    return taken


def installed(names: Iterable[str], say: Callable[[str], None]) -> list[str]:
    """Return those of these rivals whose libraries are installed; say what the others need."""
    for name in names:
        if not RIVALS[name].is_installed():
            say(f"{name:<36}not measured: it needs pip install 'unlost[bench]'")
    return [name for name in names if RIVALS[name].is_installed()]


async def ours(bed: Bed, listeners: int, load: Load, into: Taken) -> None:
    """Measure listeners without a handler."""
    into.backlog.append(
        await pipeline.stored(bed, listeners=listeners, count=load.count, size=load.size, duplicates=load.duplicates)
    )
    children = bed.system.listeners[:listeners]
    into.seen.append(await latency.published_to_visible(bed, rate=load.rate, seconds=load.seconds, children=children))


async def by_hand(bed: Bed, rival: Rival, load: Load, into: Taken) -> None:
    """Measure workers by hand on a queue that holds a backlog, then on single events.

    The workers are up and connected before they begin, so no figure includes the start of a process.
    """
    distinct = events(load.count, bed.new_run(), load.size)
    lines = with_duplicates(distinct, load.duplicates, random.Random(load.count)) if load.duplicates else distinct  # noqa: S311
    rows = load.count if rival.keyed else len(lines)
    async with _table(bed, rival), rival.opened(bed) as queue:
        await queue.fill(lines)
        async with _workers(queue) as workers:
            listeners, servers = processor.Used([one.pid for one in workers]), processor.Used(queue.servers)
            begin(workers)
            await _arrived(bed, rows, workers)
            used = listeners.seconds(), servers.seconds()
            seconds, found = await bed.connection.fetchrow(SPAN)  # type: ignore[misc]
            if found != rows:
                raise RuntimeError(f"{rows:,} rows were expected, and there are {found:,}")
            into.backlog.append(Measured(len(lines), seconds, *used))
            stored = WorkersRows(bed, workers, queue.door, rows)
            into.seen.append(
                await latency.seen(bed, stored, rate=load.rate, seconds=load.seconds, warm_seconds=load.warm_seconds)
            )


class WorkersRows:
    """The rows that workers by hand store after a backlog."""

    def __init__(self, bed: Bed, workers: Sequence[asyncio.subprocess.Process], door: Door, before: int) -> None:
        self._bed = bed
        self._before = before
        self._workers = workers
        self.door = door

    async def arrived(self, count: int) -> None:
        """Wait until so many events are rows, beside the backlog."""
        await _arrived(self._bed, self._before + count, self._workers)

    async def written_by(self) -> dict[str, int]:
        """Return which transaction wrote each event."""
        return {row[0]: row[1] for row in await self._bed.connection.fetch(WRITTEN_BY)}


def ratios(taken: Mapping[str, Taken]) -> dict[str, float]:
    """Return the ratios that have bars, each the median of all rounds."""
    floor = [one.p99 for one in taken[COPIED].seen]
    found = {
        name: statistics.median(one.p99 / least for one, least in zip(taken[ours].seen, floor, strict=True))
        for name, ours in (("copy_p99", ONE), ("copy_p99_two", TWO))
    }
    if NATS in taken:
        rates = zip(taken[ONE].backlog, taken[NATS].backlog, strict=True)
        found["by_hand"] = statistics.median(ours.rate / theirs.rate for ours, theirs in rates)
    return found


@contextlib.asynccontextmanager
async def _table(bed: Bed, rival: Rival) -> AsyncIterator[None]:
    await bed.connection.execute(EMPTY)
    await bed.connection.execute(TABLE if rival.keyed else WITHOUT_KEY)
    await bed.connection.execute("checkpoint", timeout=WAIT)
    yield
    await bed.connection.execute(EMPTY)


@contextlib.asynccontextmanager
async def _workers(queue: Queue) -> AsyncIterator[Sequence[asyncio.subprocess.Process]]:
    """Run the workers until they are ready to begin."""
    pipe = asyncio.subprocess.PIPE
    workers = [await asyncio.create_subprocess_exec(*one, stdin=pipe, stdout=pipe) for one in queue.workers]
    try:
        for one in workers:
            assert one.stdout
            if not await asyncio.wait_for(one.stdout.readline(), WAIT):
                raise RuntimeError("a worker by hand ended before it was ready")
        yield workers
    finally:
        for one in workers:
            if one.returncode is None:
                one.kill()
            await one.wait()


def begin(workers: Sequence[asyncio.subprocess.Process]) -> None:
    """Let workers begin that are ready."""
    for one in workers:
        assert one.stdin
        one.stdin.write(b"\n")


async def _arrived(bed: Bed, count: int, workers: Sequence[asyncio.subprocess.Process]) -> None:
    async with asyncio.timeout(WAIT):
        while await bed.connection.fetchval(COUNT) < count:
            if any(one.returncode is not None for one in workers):
                raise RuntimeError("a worker by hand ended before all events were rows")
            await asyncio.sleep(LOOK)
