"""The broker of a drill: one NATS server or a cluster of three, and a copy of the producer's stream in it."""

import asyncio
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from unlost.ops.faults.drills.stage import StageError
from unlost.ops.system.child import Child
from unlost.ops.system.layout import Layout
from unlost.ops.system.nats import NatsServer, cluster_of

STREAM = "drill"
CONSUMER = "unlost-unlost"
READY_WITHIN, LOOK_SECONDS = 20.0, 0.1
NODES = 3


class Broker:
    """The servers."""

    def __init__(self, servers: Sequence[NatsServer]) -> None:
        self._servers = servers

    @property
    def addresses(self) -> list[str]:
        """Where clients connect."""
        return [f"nats://{one.host}" for one in self._servers]

    @property
    def source(self) -> str:
        """The item of SOURCE. Unacknowledged messages come again after the lease of a drill."""
        return f"nats://{','.join(one.host for one in self._servers)}/{STREAM}"

    async def leader(self) -> NatsServer:
        """The server that leads the consumer."""
        if len(self._servers) == 1:
            return self._servers[0]
        import nats

        client = await nats.connect(self.addresses)
        try:
            info = await client.jetstream().consumer_info(STREAM, CONSUMER)
        finally:
            await client.close()
        name = info.cluster.leader if info.cluster else None
        return next(one for number, one in enumerate(self._servers, 1) if f"n{number}" == name)

    def start_stopped(self) -> None:
        """Start every server that does not run."""
        for one in self._servers:
            if not one.child.is_running:
                one.start()

    async def make_stream(self) -> None:
        """Make the stream, once the cluster has a leader."""
        import nats

        deadline = asyncio.get_running_loop().time() + READY_WITHIN
        while True:
            with suppress(OSError, nats.errors.Error, TimeoutError):
                client = await nats.connect(self.addresses)
                try:
                    await client.jetstream().add_stream(
                        name=STREAM, subjects=[f"{STREAM}.>"], num_replicas=len(self._servers)
                    )
                finally:
                    await client.close()
                return
            if asyncio.get_running_loop().time() > deadline:
                raise StageError(f"the broker's stream could not be made within {READY_WITHIN:.0f} s")
            await asyncio.sleep(LOOK_SECONDS)


@contextmanager
def brokered(data: Path, layout: Layout, nodes: int) -> Iterator[Broker | None]:
    """If the drill needs it, run a broker with a copy of the producer's stream, and make the listeners read it."""
    if not nodes:
        yield None
        return
    servers = [NatsServer(data / "nats")] if nodes == 1 else cluster_of(data, nodes)
    started: list[NatsServer] = []
    copier: Child | None = None
    try:
        for one in servers:
            one.start()
            started.append(one)
        broker = Broker(servers)
        asyncio.run(broker.make_stream())
        layout.extra["source"] = broker.source
        copy = [sys.executable, "-m", "unlost.ops.faults.drills.to_jetstream", layout.stream_url]
        copier = Child("copier", [*copy, ",".join(broker.addresses), STREAM], log=data / "logs" / "copier.log")
        copier.start()
        yield broker
    finally:
        if copier is not None:
            copier.kill()
        for one in started:
            one.stop()
