"""Where workers by hand get their events from: a queue in NATS, a stream in Redis, and our own producer.

Each is a context that runs the server it needs. A queue is filled before its workers begin, or while they run.
"""

import asyncio
import contextlib
import json
import secrets
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from importlib.util import find_spec
from pathlib import Path
from typing import TypeAlias

from redis.asyncio import Redis

from unlost.ops.bench.bed import Bed
from unlost.ops.bench.pacing import Door
from unlost.ops.system.nats import NatsServer, program
from unlost.ops.system.ports import LOOPBACK
from unlost.ops.system.valkey import ValkeyServer

PROGRAMS = "unlost.ops.bench.rivals"
AT_ONCE = 2_000
WORKERS = range(2)


class Queue(ABC):
    """Holds events for workers by hand."""

    door: Door
    """Where single events are accepted."""
    workers: Sequence[Sequence[str]]
    """The command of each worker."""
    servers: Sequence[int | None]
    """The process ids of the servers that take part, PostgreSQL among them."""

    @abstractmethod
    async def fill(self, lines: Sequence[bytes]) -> None:
        """Put these events into it."""


Opened: TypeAlias = Callable[[Bed], AbstractAsyncContextManager[Queue]]
"""Runs a queue beside the bed's servers."""


def _command(name: str, *arguments: str) -> Sequence[str]:
    return sys.executable, "-m", f"{PROGRAMS}.{name}", *arguments


# -- NATS --------------------------------------------------------------------------------------------


def has_nats() -> bool:
    """Whether the client and the server of NATS are installed."""
    return find_spec("nats") is not None and program() is not None


class NatsQueue(Queue):
    """A queue of JetStream that pushes."""

    def __init__(self, server: NatsServer, bed: Bed) -> None:
        self._url = f"nats://{server.host}"
        self.door = Door(LOOPBACK, server.port, _nats_publishes, _nats_hello, after_nats_answer)
        self.workers = [_command("nats_queue", self._url, bed.system.database_url) for _ in WORKERS]
        self.servers = [server.child.pid, bed.system.postgres.child.pid]

    async def make(self) -> None:
        """Make the stream and its consumer."""
        import nats

        from unlost.ops.bench.rivals import nats_queue

        client = await nats.connect(self._url)
        stream = client.jetstream()
        await stream.add_stream(name=nats_queue.STREAM, subjects=[nats_queue.SUBJECT])
        await stream.add_consumer(nats_queue.STREAM, nats_queue.CONSUMER)
        await client.close()

    async def fill(self, lines: Sequence[bytes]) -> None:
        """Publish these events, each acknowledged."""
        import nats

        from unlost.ops.bench.rivals import nats_queue

        client = await nats.connect(self._url)
        stream = client.jetstream(publish_async_max_pending=nats_queue.UNDER_WAY)
        for line in lines:
            await stream.publish_async(nats_queue.SUBJECT, line)
        await stream.publish_async_completed()
        await client.close()


def nats_queue(*, syncs: bool) -> Opened:
    """A queue of JetStream. ``syncs``: it acknowledges a message once that is on disk."""

    @contextlib.asynccontextmanager
    async def opened(bed: Bed) -> AsyncIterator[Queue]:
        with tempfile.TemporaryDirectory(prefix="unlost-bench-nats-") as directory:
            server = NatsServer(Path(directory), syncs=syncs)
            await asyncio.to_thread(server.start)
            try:
                queue = NatsQueue(server, bed)
                await queue.make()
                yield queue
            finally:
                await asyncio.to_thread(server.stop)

    return opened


def _nats_hello(number: int) -> bytes:
    return b'CONNECT {"verbose":false,"pedantic":false}\r\nSUB _INBOX.%d 1\r\n' % number


def _nats_publishes(number: int, line: bytes) -> bytes:
    return b"PUB bench _INBOX.%d %d\r\n%b\r\n" % (number, len(line), line)


def after_nats_answer(read: bytes) -> bytes | None:
    """Return what follows the first acknowledgement, or None. ``RuntimeError`` if a message was refused."""
    line, ended, rest = read.partition(b"\r\n")
    if not ended:
        return None
    if line.startswith(b"INFO ") or line == b"PING":  # an unanswered ping ends the connection after minutes
        return after_nats_answer(rest)
    if not line.startswith(b"MSG "):
        raise RuntimeError(f"NATS answered {line!r}")
    if len(rest) < (size := int(line.rsplit(b" ", 1)[1])) + 2:
        return None
    if "error" in json.loads(rest[:size]):
        raise RuntimeError(f"NATS refused a message: {rest[:size]!r}")
    return rest[size + 2 :]


# -- Redis -------------------------------------------------------------------------------------------


def has_faststream() -> bool:
    """Whether FastStream is installed."""
    return find_spec("faststream") is not None


class RedisStream(Queue):
    """A stream of Redis with a group of consumers."""

    def __init__(self, server: ValkeyServer, password: str, bed: Bed) -> None:
        from unlost.ops.bench.rivals import redis_streams

        self._names = redis_streams
        self._redis: Redis = Redis.from_url(server.nearest_url)
        self.door = Door(
            LOOPBACK, server.port, self._publishes, lambda _: _resp(b"AUTH", password.encode()), after_redis_answer
        )
        self.workers = [
            _command("redis_streams", server.nearest_url, bed.system.database_url, f"worker-{number}")
            for number in WORKERS
        ]
        self.servers = [server.child.pid, bed.system.postgres.child.pid]

    async def make(self) -> None:
        """Make the stream and its group."""
        await self._redis.xgroup_create(self._names.STREAM, self._names.GROUP, id="0", mkstream=True)

    async def fill(self, lines: Sequence[bytes]) -> None:
        """Add these events, many with each round trip."""
        for first in range(0, len(lines), AT_ONCE):
            async with self._redis.pipeline(transaction=False) as several:
                for line in lines[first : first + AT_ONCE]:
                    several.xadd(self._names.STREAM, {self._names.BODY: line})
                await several.execute()

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()

    def _publishes(self, _: int, line: bytes) -> bytes:
        return _resp(b"XADD", self._names.STREAM.encode(), b"*", self._names.BODY, line)


def redis_stream(*, syncs: bool) -> Opened:
    """A stream of Redis. ``syncs``: each entry is on disk before it is acknowledged; otherwise within a second."""

    @contextlib.asynccontextmanager
    async def opened(bed: Bed) -> AsyncIterator[Queue]:
        with tempfile.TemporaryDirectory(prefix="unlost-bench-redis-") as directory:
            how = "always" if syncs else "everysec"
            password = secrets.token_urlsafe()
            server = ValkeyServer(Path(directory), password=password, by_socket=True, options={"appendfsync": how})
            await asyncio.to_thread(server.start)
            queue = RedisStream(server, password, bed)
            try:
                await queue.make()
                yield queue
            finally:
                await queue.close()
                await asyncio.to_thread(server.stop)

    return opened


def _resp(*words: bytes) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


def after_redis_answer(read: bytes) -> bytes | None:
    """Return what follows the first added entry's id, or None. ``RuntimeError`` if an entry was refused."""
    line, ended, rest = read.partition(b"\r\n")
    if not ended:
        return None
    if line == b"+OK":  # the password
        return after_redis_answer(rest)
    if not line.startswith(b"$"):
        raise RuntimeError(f"Redis refused an entry: {line!r}")
    size = int(line[1:]) + 2
    return rest[size:] if len(rest) >= size else None


# -- our own producer --------------------------------------------------------------------------------


class OurStream(Queue):
    """The stream that our listeners read, from its present end."""

    def __init__(self, bed: Bed, url: str, form: str) -> None:
        self._bed = bed
        self.door = Door(*bed.publisher.address)
        self.workers = [_command("batch_loop", url, bed.system.database_url, form)]
        self.servers = [bed.system.producer.pid, bed.system.postgres.child.pid]

    async def fill(self, lines: Sequence[bytes]) -> None:
        """Publish these events in batches."""
        await self._bed.publish(lines)


def our_stream(form: str) -> Opened:
    """Our own stream. ``form``: what the batch loop does with its events."""

    @contextlib.asynccontextmanager
    async def opened(bed: Bed) -> AsyncIterator[Queue]:
        yield OurStream(bed, await bed.stream_from_here(), form)

    return opened
