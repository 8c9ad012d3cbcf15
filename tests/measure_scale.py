"""Measures what an event costs each part of a system, with more and more listeners: ``python -m tests.measure_scale``.

Each round begins with a group of its own. Its listeners are frozen while events are published, and then store all of
them. The costs are processor time, and the bytes that go over the wires, into PostgreSQL's log and into Redis. A model
is fitted to 1, 2 and 4 listeners, and must predict 8: parts of the cost are the same for an event, whoever stores it,
and parts grow with each listener that receives the stream.
"""

import asyncio
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import asyncpg
import httpx
import psutil
import uvloop

from unlost.listener.store.postgres.reports import Reports
from unlost.ops.bench import processor
from unlost.ops.bench.bed import LOOK, WAIT, WARMING, Bed
from unlost.ops.bench.load import events
from unlost.ops.system.child import Child
from unlost.ops.system.layout import Layout, free_ports
from unlost.ops.system.postgres import PostgresServer
from unlost.ops.system.system import System

SIZE = 300
MEET_SECONDS = 3.0
FITTED, PREDICTED = (1, 2, 4), 8


class Form(NamedTuple):
    """One thing to measure: so many listeners in each shard, which read everything or a share of the stream."""

    listeners: int
    partitions: str = "off"
    shards: int = 1

    def __str__(self) -> str:
        shards = f"{self.shards} shards of " if self.shards > 1 else ""
        reading = ", partitions" if self.partitions == "on" else ""
        return f"{shards}{self.listeners}{reading}"


FORMS = (Form(1), Form(2), Form(4), Form(8), Form(2, "on"), Form(4, "on"), Form(8, "on"), Form(16), Form(16, "on"),
         Form(1, shards=2), Form(2, shards=2))  # fmt: skip


class Costs(NamedTuple):
    """The rate, and what each event cost: microseconds of processor time, and bytes."""

    rate: float
    listeners: float
    postgres: float
    redis: float
    producer: float
    wires: float
    log: float
    memory: float

    @property
    def processor(self) -> float:
        """All processor time."""
        return self.listeners + self.postgres + self.redis + self.producer


class Place(NamedTuple):
    """A PostgreSQL, and the rows of a group in it."""

    server: PostgresServer
    connection: "asyncpg.Connection[asyncpg.Record]"

    async def log(self) -> int:
        """How many bytes its log has had."""
        return int(await self.connection.fetchval("select pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')"))


class Scale:
    """Measures on one system with two PostgreSQL servers."""

    def __init__(self, bed: Bed, places: Sequence[Place]) -> None:
        self._bed = bed
        self._places = places

    async def costs(self, form: Form, count: int) -> Costs:
        """Measure one round."""
        run = self._bed.new_run()
        places = self._places[: form.shards]
        groups = (
            [f"s{run}-shard{n}of{form.shards}" for n in range(1, form.shards + 1)] if form.shards > 1 else [f"s{run}"]
        )
        children = [
            one for place, group in zip(places, groups, strict=True) for one in self._children(form, place, group)
        ]
        for child in children:
            child.start()
        try:
            await asyncio.gather(*(asyncio.to_thread(_until_ready, child) for child in children))
            await asyncio.sleep(MEET_SECONDS)
            await self._bed.publish(events(WARMING, self._bed.new_run(), SIZE))
            await self._rows(places, groups, WARMING)
            return await self._measured(children, places, groups, count)
        finally:
            for child in children:
                await asyncio.to_thread(child.stop)
            for place in places:
                await place.connection.execute("checkpoint", timeout=WAIT)

    def _children(self, form: Form, place: Place, group: str) -> list[Child]:
        system = self._bed.system
        layout = system.layout.with_listeners(form.listeners).with_settings(
            GROUP=group, PARTITIONS=form.partitions, START_FROM="now"
        )
        return layout.listeners(place.server.url, system.redis_url)

    async def _measured(
        self, children: Sequence[Child], places: Sequence[Place], groups: Sequence[str], count: int
    ) -> Costs:
        for child in children:
            child.freeze()
        await self._bed.publish(events(count, self._bed.new_run(), SIZE))
        system, redis = self._bed.system, self._bed.redis
        used = [
            processor.Used(pids)
            for pids in (
                [child.pid for child in children], [place.server.child.pid for place in places],
                [system.valkey.child.pid], [system.producer.pid],
            )
        ]  # fmt: skip
        wires, logs = _on_the_wires(), [await place.log() for place in places]
        memory = int((await redis.info("memory"))["used_memory"])
        started = time.perf_counter()
        for child in children:
            child.thaw()
        await self._rows(places, groups, WARMING + count)
        seconds = time.perf_counter() - started
        listeners, postgres, valkey, producer = (one.seconds() / count * 1e6 for one in used)
        log = sum([await place.log() for place in places]) - sum(logs)
        grown = int((await redis.info("memory"))["used_memory"]) - memory
        return Costs(
            count / seconds,
            listeners,
            postgres,
            valkey,
            producer,
            (_on_the_wires() - wires) / count,
            log / count,
            grown / count,
        )

    async def _rows(self, places: Sequence[Place], groups: Sequence[str], count: int) -> None:
        """Wait until the groups have so many rows."""
        async with asyncio.timeout(WAIT):
            while True:
                found = [
                    await Reports(place.connection, group).count_after(0)
                    for place, group in zip(places, groups, strict=True)
                ]
                if sum(found) >= count:
                    return
                await asyncio.sleep(LOOK)


def _until_ready(child: Child) -> None:
    url = f"http://127.0.0.1:{child.environment['PORT']}/health/ready"
    deadline = time.monotonic() + WAIT
    while True:
        try:
            if httpx.get(url, trust_env=False).is_success:
                return
        except httpx.TransportError:
            pass
        if time.monotonic() > deadline:
            raise TimeoutError(url)
        time.sleep(LOOK)


def _on_the_wires() -> int:
    return int(psutil.net_io_counters(pernic=True)["lo"].bytes_sent)


def fitted(found: Mapping[int, float]) -> tuple[float, float]:
    """Return what a cost is for one event, and what it is beside for each listener: a line by least squares."""
    line = statistics.linear_regression(list(found), list(found.values()))
    return line.intercept, line.slope


async def _run(system: System, places: Sequence[PostgresServer], rounds: int, count: int) -> None:
    connections = [await asyncpg.connect(one.url) for one in places]
    bed = Bed(system, connections[0])
    scale = Scale(bed, [Place(*one) for one in zip(places, connections, strict=True)])
    found: dict[Form, list[Costs]] = {}
    for number in range(rounds):
        for form in FORMS:
            found.setdefault(form, []).append(await scale.costs(form, count))
            print(f"round {number + 1}: {form}: {found[form][-1]}", file=sys.stderr, flush=True)
    medians = {form: Costs(*map(statistics.median, zip(*some, strict=True))) for form, some in found.items()}
    print("listeners             events/s  all µs  listeners  PostgreSQL  Redis  producer  wires B  log B  Redis B")
    for form, one in medians.items():
        print(
            f"{form!s:<20}{one.rate:>10,.0f}{one.processor:>8.1f}{one.listeners:>11.1f}{one.postgres:>12.1f}"
            f"{one.redis:>7.1f}{one.producer:>10.1f}{one.wires:>9,.0f}{one.log:>7,.0f}{one.memory:>9.1f}"
        )
    for reading in ("off", "on"):
        known = {n: medians[Form(n, reading)].processor for n in FITTED if Form(n, reading) in medians}
        if len(known) < 2:
            continue
        base, each = fitted(known)
        expected, measured = base + each * PREDICTED, medians[Form(PREDICTED, reading)].processor
        print(
            f"partitions {reading}: {base:.1f} µs and {each:.2f} for each listener; {PREDICTED} listeners: "
            f"{expected:.1f} expected, {measured:.1f} measured ({measured / expected - 1:+.0%})"
        )
    await bed.close()
    for connection in connections[1:]:
        await connection.close()


def main() -> None:
    rounds, count = map(int, (sys.argv[1:] + ["3", "40000"][len(sys.argv) - 1 :])[:2])
    with tempfile.TemporaryDirectory(prefix="unlost-scale-", ignore_cleanup_errors=True) as directory:
        data = Path(directory)
        data.chmod(0o711)
        layout = Layout(data, free_ports(1), {"LOG_LEVEL": "warning"})
        system, other = System(layout, lambda _: None, threading.Event()), PostgresServer(data / "other")
        try:
            system.start()
            for child in system.listeners:
                child.stop()
            other.start()
            uvloop.run(_run(system, [system.postgres, other], rounds, count))
        finally:
            other.stop()
            system.stop()


if __name__ == "__main__":
    main()
