"""``python -m tests.measure_brokers``: how fast one listener stores a backlog of a broker, and what an event costs.

The broker has all events before the listener starts. Measured is the time between the first row and the last, as
PostgreSQL's clock has it, and the processor time that the listener's process used for all of it, its start included.
Kafka is the server for tests, which keeps everything in memory, or with ``kafka-on-disk`` in an object store.
"""

import argparse
import asyncio
import os
import tempfile
from pathlib import Path
from typing import Any

import asyncpg

from tests.end_to_end.faults.conftest import ListenerProcess
from tests.support.brokers import (
    DurableTansuServer,
    JetStreamBroker,
    KafkaBroker,
    RabbitBroker,
    RabbitServer,
    RabbitStreamBroker,
    TansuServer,
    running,
)
from tests.support.servers import running_postgres, running_valkey
from unlost.ops.system.nats import NatsServer
from unlost.ops.system.server import Server

KINDS: dict[str, tuple[type[Server], Any, str]] = {
    "jetstream": (NatsServer, JetStreamBroker, "backlog"),
    "kafka": (TansuServer, KafkaBroker, "backlog-of-members"),
    "kafka-on-disk": (DurableTansuServer, KafkaBroker, "backlog-of-members"),
    "rabbitmq": (RabbitServer, RabbitBroker, "backlog"),
    "rabbitmq-stream": (RabbitServer, RabbitStreamBroker, "backlog"),
}
AT_ONCE = 1_000
PAYLOAD = "x" * 80
"""An event of 120 bytes or so."""


def main() -> None:
    """Measure each kind that is named, and print one line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", choices=list(KINDS), default=["jetstream", "kafka"])
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=300.0, help="how long a listener may take")
    given = parser.parse_args()
    for kind in given.kinds:
        print(f"{kind:<16}{asyncio.run(measure(kind, given.events, given.seconds))}", flush=True)


async def measure(kind: str, events: int, seconds: float) -> str:
    """Store a backlog with a listener of its own, and return the figures."""
    make_server, make_broker, name = KINDS[kind]
    with (
        running(make_server) as server, running_postgres() as postgres, running_valkey() as valkey,
        tempfile.TemporaryDirectory() as directory,
    ):  # fmt: skip
        broker = make_broker(server, name)
        await broker.make()
        for first in range(0, events, AT_ONCE):
            numbers = range(first, min(events, first + AT_ONCE))
            await broker.publish([b'{"event_id":"e%08d","payload":"%b"}' % (n, PAYLOAD.encode()) for n in numbers])
        source = broker.address.replace("ack_wait=1.0", "ack_wait=30")
        listener = ListenerProcess(Path(directory), "a", source=source, redis_url=valkey.url, database_url=postgres.url)
        try:
            await asyncio.to_thread(listener.start)
            span = await stored(postgres.url, events, seconds)
            used = processor_seconds(listener.child.pid)
        finally:
            await asyncio.to_thread(listener.child.stop, 30.0)
    load = os.getloadavg()[0]
    return f"{events / span:9,.0f} rows/s, {used / events * 1e6:5.1f} µs of processor time an event, load {load:.1f}"


async def stored(database_url: str, events: int, seconds: float) -> float:
    """Wait until all are rows; return the seconds between the first and the last."""
    connection = await asyncpg.connect(database_url)
    try:
        async with asyncio.timeout(seconds):
            while await connection.fetchval("select count(*) from unlost.events") < events:  # noqa: ASYNC110
                await asyncio.sleep(0.2)
        span = await connection.fetchval("select max(processed_at) - min(processed_at) from unlost.events")
    finally:
        await connection.close()
    return float(span.total_seconds())


def processor_seconds(pid: int | None) -> float:
    """Return what a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
