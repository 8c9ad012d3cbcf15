"""The test bed of all measurements: one private system, whose listeners run only while they are measured."""

import asyncio
import secrets
import time
from collections.abc import Sequence

import asyncpg
import httpx
from redis.asyncio import Redis
from websockets.asyncio.client import connect

from unlost.listener.claims.manager import TICK_SECONDS
from unlost.listener.source.stream.handshake import source_name
from unlost.listener.store.postgres.cursors import PostgresCursors
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.reports import Reports
from unlost.ops.bench import processor
from unlost.ops.bench.client import BatchPoster, checked, request
from unlost.ops.bench.figures import Measured
from unlost.ops.bench.load import bodies, events
from unlost.ops.system.child import Child
from unlost.ops.system.ports import LOOPBACK
from unlost.ops.system.system import System

WAIT = 600.0
GROUP = "unlost"
LOOK = 0.2
WARMING = 200
"""Events that each round stores before it is measured."""
BODIES_AT_ONCE = 4
"""One is being sent, one read, one committed, and one answered."""


def publishing(line: bytes) -> bytes:
    """Make a request that publishes one event."""
    return request("/publish", line)


class Bed:
    """Publishes events, runs listeners, and checks the rows in PostgreSQL."""

    def __init__(self, system: System, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        self.system = system
        self.connection = connection
        self.reports = Reports(connection)
        self.redis: Redis = Redis.from_url(system.redis_url)
        self._base = 0
        self._database = Database(system.database_url)
        self._cursors = PostgresCursors(self._database)
        self.publisher = BatchPoster(system.layout.producer_url)

    @property
    def server_pids(self) -> list[int | None]:
        """The process ids of PostgreSQL, Valkey and the producer; None for one that does not run."""
        servers = self.system.postgres.child, self.system.valkey.child, self.system.producer
        return [one.pid if one.is_running else None for one in servers]

    async def close(self) -> None:
        """Close the connections."""
        self.publisher.close()
        await self.redis.aclose()
        await self._database.close()
        await self.connection.close()

    @staticmethod
    def new_run() -> str:
        """Make a prefix for ids that no earlier round has used."""
        return secrets.token_hex(4)

    async def here(self) -> str:
        """Return the cursor of the stream's end."""
        async with connect(self.system.layout.stream_url, proxy=None) as stream:
            assert stream.response
            return stream.response.headers["unlost-cursor"]

    async def stream_from_here(self) -> str:
        """Return a stream URL that starts at the present end, so that it sends only events published from now on."""
        return f"{self.system.layout.stream_url}?after={await self.here()}"

    async def begin_here(self) -> None:
        """Move the listeners' cursor past events that were published for other measurements."""
        url = self.system.layout.stream_url
        await self._cursors.advance(source_name(url), GROUP, await self.here())

    async def publish(self, lines: Sequence[bytes]) -> float:
        """Publish in batches, and redeliver known ids; return the seconds that it took."""
        started = time.perf_counter()
        waiting = bodies(lines)

        async def post() -> None:
            for body in waiting:
                await self.publisher.post("/publish/batch?redeliver=true", body)

        await asyncio.gather(*(post() for _ in range(BODIES_AT_ONCE)))
        return time.perf_counter() - started

    async def publish_each(self, lines: Sequence[bytes]) -> None:
        """Publish each event in its own request, with as many requests at once as there are connections."""
        await self.publisher.open()
        for answer in await asyncio.gather(*[self.publisher.send(publishing(line)) for line in lines]):
            checked(answer)

    async def forget_rows(self) -> None:
        """Begin a round with an empty table and an empty Redis."""
        await self.reports.truncate_rows()
        await self.keep_rows()

    async def keep_rows(self) -> None:
        """Begin a round with the present rows and an empty Redis."""
        self._base = await self.reports.newest()
        await self.connection.execute("checkpoint", timeout=WAIT)
        await self.redis.flushall()

    async def rows(self, count: int) -> int:
        """Wait for ``count`` rows; return how many there are."""
        async with asyncio.timeout(WAIT):
            while (found := await self.reports.count_after(self._base)) < count:  # noqa: ASYNC110  other processes write them
                await asyncio.sleep(LOOK)
        return found

    async def stored(self, children: Sequence[Child], lines: Sequence[bytes], distinct: int) -> Measured:
        """Measure how fast these listeners store waiting events: from the first received frame to the last row.

        They are up and know each other, and are frozen while events are published. So the figure includes no start of
        a process. The processor seconds are those of the listeners, and beside them those of the servers.
        """
        await self.begin_here()
        for child in children:
            child.start()
        try:
            await self.met(children)
            for child in children:
                child.freeze()
            await self.publish(lines)
            used = processor.Used([child.pid for child in children]), processor.Used(self.server_pids)
            for child in children:
                child.thaw()
            await self.rows(distinct)
            listeners, servers = (one.seconds() for one in used)
            seconds = await self.reports.span_after(self._base)
        finally:
            for child in children:
                await asyncio.to_thread(child.stop)
        await self._audit(distinct)
        return Measured(len(lines), seconds, listeners, servers)

    async def met(self, children: Sequence[Child]) -> None:
        """Wait until these listeners are ready and know each other, and have stored some events together."""
        async with asyncio.timeout(WAIT), httpx.AsyncClient(trust_env=False) as client:
            for child in children:
                while not await _is_ready(client, child):  # noqa: ASYNC110  another process gets ready
                    await asyncio.sleep(LOOK)
        await asyncio.sleep(TICK_SECONDS * 2 if len(children) > 1 else 0)
        await self.publish(events(WARMING, self.new_run(), 300))
        await self.rows(WARMING)
        self._base = await self.reports.newest()

    async def _audit(self, distinct: int) -> None:
        """Check the rows: a fast figure with wrong rows is worthless."""
        found = await self.reports.distinct_after(self._base)
        if found != (distinct, distinct):
            raise RuntimeError(f"{distinct:,} rows were expected, and there are {found[0]:,}")


async def _is_ready(client: httpx.AsyncClient, listener: Child) -> bool:
    try:
        return (await client.get(f"http://{LOOPBACK}:{listener.environment['PORT']}/health/ready")).is_success
    except httpx.TransportError:
        return False
