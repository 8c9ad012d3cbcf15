"""Kafka as a source: the listeners of a group share the partitions of one topic.

The position of each partition is kept beside the rows, in PostgreSQL, up to the first event that is not settled. Only
what PostgreSQL has recorded is committed to Kafka, to show the lag. Reading begins at PostgreSQL's position. So if
PostgreSQL went back, reading continues from its position.

A revoked partition is given up at once. Its position is saved, and its events are finished here. The new owner reads
those after the position again, and finds them claimed or stored. From then on no position is saved here.
"""

import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Literal
from urllib.parse import unquote

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from aiokafka.structs import OffsetAndMetadata

from unlost.listener.core.errors import Misconfigured
from unlost.listener.ports.source import Loss, SourceEnded
from unlost.listener.source.brokers.address import BrokerAddress, consumer_of
from unlost.listener.source.brokers.errors import leave, library_errors, within
from unlost.listener.source.brokers.kafka_session import KafkaOptions, KafkaSession, Positions
from unlost.listener.source.brokers.kafka_unpacking import bound

OPTIONS = ("group", "mechanism", "security", "session")
FETCH_BYTES = 16 * 1024 * 1024
PARTITION_BYTES = 1024 * 1024
"""Limits in bytes of one response of a broker, and of one partition in it. A larger message is sent alone."""
OPEN_SECONDS = 30.0
CLOSE_SECONDS = 5.0
SECURITY = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
NEVER = 86_400_000
"""A paused reader keeps its partitions: its health shows that it does not read."""


def options_of(address: BrokerAddress, *, group: str, start_from: Literal["oldest", "now"]) -> KafkaOptions:
    """Return the settings for this address."""
    consumer_group = address.options.get("group", consumer_of(group))
    name, session = f"{address.name}/{consumer_group}", address.seconds("session", 10.0)
    return KafkaOptions(address, name, address.path, consumer_group, start_from, session)


class Kafka:
    """A ``Source``."""

    shared = True
    partitioned = True
    resumes = True

    def __init__(
        self,
        options: KafkaOptions,
        positions: Positions,
        *,
        consumer: Callable[..., Any] | None = None,
        admin: Callable[..., Any] | None = None,
    ) -> None:
        """Make one. ``consumer`` and ``admin`` make clients, by default the library's."""
        bound()
        self.name = options.name
        self._options = options
        self._security = security_of(options.address)
        self._positions = positions
        self._consumer = consumer
        self._admin = admin

    @contextlib.asynccontextmanager
    async def open(self, cursor: Callable[[], Awaitable[str | None]]) -> AsyncIterator["KafkaSession"]:  # noqa: ARG002
        """See ``Source``. Each partition has a cursor of its own, so this one is not used."""
        options, session = self._options, int(self._options.session_seconds * 1000)
        consumer = (self._consumer or AIOKafkaConsumer)(
            bootstrap_servers=list(options.address.hosts), client_id="unlost", group_id=options.consumer_group,
            enable_auto_commit=False, auto_offset_reset="none", isolation_level="read_committed",
            max_poll_interval_ms=NEVER, rebalance_timeout_ms=session,
            session_timeout_ms=session,
            heartbeat_interval_ms=session // 3, request_timeout_ms=int(OPEN_SECONDS * 1000),
            fetch_max_bytes=FETCH_BYTES, max_partition_fetch_bytes=PARTITION_BYTES,
            **self._security,
        )  # fmt: skip
        opened = KafkaSession(consumer, options, self._positions, self._committed)
        try:
            with library_errors(KafkaError):
                async with within(OPEN_SECONDS, "connecting to Kafka"):
                    await consumer.start()
                    known = await consumer.topics()  # asking for one topic by name may create it
                if options.topic not in known:
                    hosts = ",".join(options.address.hosts)
                    raise SourceEnded(Loss(f"there is no topic {options.topic} on {hosts} that this user may see"))
                consumer.subscribe([options.topic], listener=opened)
                async with within(OPEN_SECONDS, f"joining the consumer group {options.consumer_group}"):
                    await opened.joined.wait()
            yield opened
        finally:
            await leave(opened.save, CLOSE_SECONDS)
            await leave(consumer.stop, CLOSE_SECONDS)

    async def _committed(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, OffsetAndMetadata]:
        """Return what is committed for the group, and what stands beside it: the consumer would show numbers alone."""
        options = self._options
        admin = (self._admin or AIOKafkaAdminClient)(
            bootstrap_servers=list(options.address.hosts), client_id="unlost", **self._security
        )
        try:
            await admin.start()
            found: Mapping[TopicPartition, OffsetAndMetadata] = await admin.list_consumer_group_offsets(
                options.consumer_group, partitions=[*partitions]
            )
        finally:
            await leave(admin.close, CLOSE_SECONDS)
        return found


def security_of(address: BrokerAddress) -> dict[str, object]:
    """Return how a client proves who it is, as aiokafka takes it."""
    security = address.options.get("security", "sasl_plaintext" if address.user else "plaintext").upper()
    mechanism = address.options.get("mechanism", "PLAIN").upper()
    for option, value, known in (("security", security, SECURITY), ("mechanism", mechanism, MECHANISMS)):
        if value not in known:
            raise Misconfigured(f"SOURCE={address.name}: {option} is one of {', '.join(known)}, not {value}")
    given: dict[str, object] = {"security_protocol": security}
    if security.endswith("SSL"):
        given["ssl_context"] = ssl.create_default_context()
    if security.startswith("SASL"):
        user, _, password = address.user.rstrip("@").partition(":")
        given |= {
            "sasl_mechanism": mechanism,
            "sasl_plain_username": unquote(user),
            "sasl_plain_password": unquote(password),
        }
    return given
