"""Sets up a stage on this machine for one drill, and takes it away again.

In the drill with a full disk, handler runs are recorded through a pipe, which has no size.
"""

import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from unlost.ops.faults.drills import brokers, nodes, second, shards
from unlost.ops.faults.drills.drill import Drill
from unlost.ops.faults.drills.feeds import described
from unlost.ops.faults.drills.local_stage import HEALED, LocalStage
from unlost.ops.faults.drills.releases import release_before
from unlost.ops.faults.drills.wires import proxied
from unlost.ops.system.child import Child
from unlost.ops.system.layout import Layout, free_ports, write_environment
from unlost.ops.system.patroni import PatroniPair
from unlost.ops.system.ports import LOOPBACK, free_port
from unlost.ops.system.postgres_pair import PostgresPair
from unlost.ops.system.postgres_topologies import PostgresTopology
from unlost.ops.system.redis_cluster import ValkeyCluster
from unlost.ops.system.redis_sentinels import ValkeyWithSentinels
from unlost.ops.system.redis_topologies import RedisTopology
from unlost.ops.system.restarts import StartStep
from unlost.ops.system.system import System

LEASE = 5.0
FEW_CONNECTIONS = ("-c", "max_connections=60")
TOPOLOGIES: dict[str, Callable[[Path], RedisTopology]] = {"cluster": ValkeyCluster, "sentinels": ValkeyWithSentinels}


@contextmanager
def _fed(data: Path, layout: Layout, foreign: bool) -> Iterator[Layout]:
    """If the drill needs it, run a source that cannot resume, and make the listeners read it."""
    if not foreign:
        yield layout
        return
    port = free_port()
    producer, address = layout.stream_url, f"ws://{LOOPBACK}:{port}/"
    feed = Child(
        "feed",
        [sys.executable, "-m", "unlost.ops.faults.drills.feed", producer, str(port)],
        log=data / "logs" / "feed.log",
    )
    feed.start()
    try:
        yield replace(layout, route=lambda _, url: address if url == producer else url)
    finally:
        feed.kill()


def _environment_of(drill: Drill, data: Path, settings: Mapping[str, str]) -> dict[str, str]:
    return {
        "lease": str(LEASE),
        "handler": drill.handler,
        **({"group": shards.FIRST} if drill.shards else {}),
        "log_level": "info",
        "DRILL_RUNS": str(data / ("runs.pipe" if drill.fills_disk else "runs")),
        **settings,
    }


def _pair(drill: Drill, layout: Layout) -> PostgresTopology | None:
    match drill.standby:
        case "":
            return None
        case "ours":
            return PostgresPair(layout.data, layout.ports.postgres, log=layout.log("postgres"))
        case "patroni":
            return PatroniPair(layout.data)


@contextmanager
def local_stage(
    drill: Drill,
    data: Path,
    listeners: int,
    say: Callable[[StartStep], None],
    *,
    console: bool = False,
    before: str | None = None,
) -> Iterator[LocalStage]:
    """Run a private system within the block. Its console replays with the handler healed.

    ``before``: the version from which the drill upgrades.
    """
    data.mkdir(parents=True, exist_ok=True)
    data.chmod(0o711)  # if this user is root, PostgreSQL runs as another user
    release = release_before(before, data / "before") if drill.upgrades else None
    ports = free_ports(listeners, console=console or drill.upgrades)
    extra = _environment_of(drill, data, drill.settings)
    with (
        _pipe_of_runs(data, drill.fills_disk),
        proxied(data, ports, drill.wires) as wires,
        ExitStack() as fed,
    ):
        layout = Layout(data, ports, extra, wires.route) if wires else Layout(data, ports, extra)
        layout = fed.enter_context(_fed(data, replace(layout, console_extra=HEALED), drill.foreign))
        broker = fed.enter_context(brokers.brokered(data, layout, drill.broker))
        feed = fed.enter_context(described(data, layout, drill.feed))
        if release is not None:
            layout = replace(layout, programs=release.programs)
        layout, journal_nodes = fed.enter_context(nodes.streamed(data, layout, drill.journal_nodes))
        if wires:
            layout.extra["source_name"] = layout.stream_url
        options = FEW_CONNECTIONS if drill.few_connections else ()
        pair = _pair(drill, layout)
        topology = TOPOLOGIES[drill.redis](data / "valkeys") if drill.redis != "one" else None
        system = System(
            layout, say, threading.Event(), postgres_options=options, redis=topology, pair=pair, pooled=drill.pooled,
            balanced=drill.producers if drill.producers > 1 else 0,
        )  # fmt: skip
        try:
            system.start()
            write_environment(
                layout, pair.url if pair else system.postgres.url, topology.url if topology else system.valkey.url
            )
            stage = LocalStage(system, drill, wires, broker, feed, journal_nodes, release)
            if drill.shards:
                stage.add_shard(fed.enter_context(shards.second_shard(system)))
            if drill.two_groups:
                stage.add_group(fed.enter_context(second.second_group(system)))
            yield stage
            fed.close()
        finally:
            system.stop()


@contextmanager
def _pipe_of_runs(data: Path, needed: bool) -> Iterator[None]:
    """If needed, make a pipe that a child process copies into the file of runs."""
    if not needed:
        yield
        return
    pipe = data / "runs.pipe"
    os.mkfifo(pipe, 0o600)
    held_open = os.open(pipe, os.O_RDWR)  # so that its reader never sees an end of file
    copy = "import sys; [print(line, end='', flush=True) for line in open(sys.argv[1])]"
    reader = Child("runs", [sys.executable, "-c", copy, str(pipe)], log=data / "runs")
    reader.start()
    try:
        yield
    finally:
        reader.kill()
        os.close(held_open)
