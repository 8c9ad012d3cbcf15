"""Each event as a message in Kafka, beside its row: ``HANDLER=unlost.kafka:app``.

The message is written before the row, and acknowledged by all replicas. A second run writes it once more, with the same
key and the same header ``event_id``, by which a reader knows it again. Every row has its message.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from pydantic import Field

from unlost.listener.app.embedding import App
from unlost.listener.core.delivery import Delivery
from unlost.listener.core.errors import Misconfigured, Reject
from unlost.listener.shipped.envelope import text_of
from unlost.ops.kit.command import SecretUrl, Settings, UsageProblem

try:
    from aiokafka import AIOKafkaProducer
    from aiokafka.errors import MessageSizeTooLargeError

    from unlost.listener.source.brokers.address import BrokerAddress, read_address
    from unlost.listener.source.brokers.kafka import security_of
except ImportError as error:
    raise Misconfigured('unlost.kafka needs the package aiokafka: pip install "unlost[kafka]"') from error

LONGEST_CALL = 10.0
OPTIONS = ("mechanism", "security")
app = App()


class KafkaSettings(Settings):
    """Where messages are written."""

    kafka_publish_url: SecretUrl = Field(
        SecretUrl("kafka://127.0.0.1:9092/events"), description="Kafka, with the topic that gets each event"
    )


class Topic:
    """Writes to one topic. Connects when it is first needed, so a broker that is away prevents no start."""

    def __init__(self, address: BrokerAddress) -> None:
        self._address = address
        self._producer: AIOKafkaProducer | None = None
        self._connecting = asyncio.Lock()

    async def write(self, event: Delivery) -> None:
        """Write one event; return once all replicas have it."""
        producer = await self._connected()
        headers = [("event_id", event.event_id.encode())]
        async with asyncio.timeout(LONGEST_CALL):
            await producer.send_and_wait(
                self._address.path, text_of(event), key=event.event_id.encode(), headers=headers
            )

    async def close(self) -> None:
        """Disconnect."""
        if self._producer is not None:
            await self._producer.stop()

    async def _connected(self) -> AIOKafkaProducer:
        async with self._connecting:
            if self._producer is None:
                producer = AIOKafkaProducer(
                    bootstrap_servers=list(self._address.hosts), client_id="unlost", acks="all",
                    request_timeout_ms=int(LONGEST_CALL * 1000), **security_of(self._address),
                )  # fmt: skip
                try:
                    async with asyncio.timeout(LONGEST_CALL):
                        await producer.start()
                except BaseException:
                    await producer.stop()
                    raise
                self._producer = producer
            return self._producer


@app.lifespan
async def resources() -> AsyncIterator[dict[str, Any]]:
    """Read the settings."""
    try:
        url = KafkaSettings.load({}).kafka_publish_url.reveal()
    except UsageProblem as error:
        raise Misconfigured(*error.problems) from error
    topic = Topic(read_address(url, what="TOPIC", port=9092, options=OPTIONS, setting="KAFKA_PUBLISH_URL"))
    try:
        yield {"topic": topic}
    finally:
        await topic.close()


@app.otherwise
async def publish(event: Delivery, topic: Topic) -> None:
    """Write the message of one event."""
    try:
        await topic.write(event)
    except MessageSizeTooLargeError as error:
        raise Reject(f"Kafka cannot take this event: {error}") from error
