"""The nodes of a drill whose producer keeps its journal in JetStream, three copies of it."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from unlost.ops.faults.drills.stage import StageError
from unlost.ops.system.layout import Layout
from unlost.ops.system.nats import NatsServer, cluster_of

STREAM = "journal"
NODES = 3
READY_WITHIN, LOOK_SECONDS = 30.0, 0.1


class JournalNodes:
    """The servers."""

    def __init__(self, servers: list[NatsServer]) -> None:
        self._servers = servers

    @property
    def url(self) -> str:
        """The address of the journal."""
        hosts = ",".join(one.host for one in self._servers)
        monitors = ",".join(f"http://{one.monitor}" for one in self._servers)
        return f"nats://{hosts}/{STREAM}?replicas={NODES}&monitor={monitors}"

    async def leader(self) -> NatsServer:
        """The server that leads the journal's stream."""
        import nats

        client = await nats.connect([f"nats://{one.host}" for one in self._servers])
        try:
            info = await client.jetstream().stream_info(STREAM)
        finally:
            await client.close()
        name = info.cluster.leader if info.cluster else None
        return next(one for number, one in enumerate(self._servers, 1) if f"n{number}" == name)

    async def until_led(self) -> None:
        """Return once the cluster takes requests for streams."""
        import nats

        deadline = asyncio.get_running_loop().time() + READY_WITHIN
        while True:
            with suppress(OSError, nats.errors.Error, TimeoutError):
                client = await nats.connect([f"nats://{one.host}" for one in self._servers])
                try:
                    await client.jetstream().account_info()
                finally:
                    await client.close()
                return
            if asyncio.get_running_loop().time() > deadline:
                raise StageError(f"the nodes of the journal had no leader within {READY_WITHIN:.0f} s")
            await asyncio.sleep(LOOK_SECONDS)

    def start_stopped(self) -> None:
        """Start every server that does not run."""
        for one in self._servers:
            if not one.child.is_running:
                one.start()


@contextmanager
def streamed(data: Path, layout: Layout, needed: bool) -> Iterator[tuple[Layout, JournalNodes | None]]:
    """If the drill needs it, run three nodes, and make the producer keep its journal there."""
    if not needed:
        yield layout, None
        return
    servers = cluster_of(data, NODES)
    started: list[NatsServer] = []
    try:
        for one in servers:
            one.start()
            started.append(one)
        nodes = JournalNodes(servers)
        asyncio.run(nodes.until_led())
        yield replace(layout, journal_url=nodes.url), nodes
    finally:
        for one in started:
            one.stop()
