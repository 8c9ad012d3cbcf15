"""Mistakes about a source that is acknowledged, shared and partitioned. Schedules of a topic must find them."""

from collections.abc import Callable, Mapping
from typing import Any

from tests.simulation.postgres import PostgresMemory
from unlost.listener.core.watermark import Watermark
from unlost.listener.pipeline.inlet import Inlet
from unlost.listener.ports.source import Batch
from unlost.listener.source.brokers.kafka_session import KafkaSession

REACHED = {Inlet: ("_acknowledge",), KafkaSession: ("_begin", "_committed", "_consumer", "_watermarks")}
"""The private names of the product on which these mistakes depend (``mutations.py``)."""
Patch = tuple[Any, str, Callable[[Any], Any]]


def acknowledged_at_receipt(real: Any) -> Any:
    def receive(self: Inlet, batch: Batch) -> Any:
        assert self._acknowledge is not None
        self._acknowledge([receipt for _, receipt in batch.receipts])
        return real(self, batch)

    return receive


def saves_in_any_store(real: Any) -> Any:
    return lambda self, source, group, cursor, store=None: real(self, source, group, cursor, None)


def _saved_when_revoked(real: Any) -> Any:
    async def revoked(self: KafkaSession, partitions: Any) -> None:
        for one in partitions:
            if (held := self._watermarks.get(one)) is not None:
                self._watermarks[one] = Watermark()
                self._watermarks[one].cursor = held.newest
        await real(self, partitions)

    return revoked


def _where_kafka_is(real: Any) -> Any:
    async def begin(self: KafkaSession, partition: Any) -> None:
        await real(self, partition)
        if (at := (await self._committed([partition])).get(partition)) is not None:
            self._consumer.seek(partition, at.offset)

    return begin


def _at_its_end(real: Any) -> Any:
    async def begin(self: KafkaSession, partition: Any) -> None:
        await real(self, partition)
        ends = await self._consumer.end_offsets([partition])
        self._consumer.seek(partition, ends[partition])

    return begin


def _keeps_watermarks(_: Any) -> Any:
    return lambda self: self.end("reading begins again")


TOPIC_MUTATIONS: Mapping[str, tuple[str, list[Patch]]] = {
    "topic-acknowledged-at-receipt": (
        "a message counts as settled when it is received",
        [(Inlet, "receive", acknowledged_at_receipt)],
    ),
    "topic-saved-when-revoked": (
        "the position of a partition that is revoked passes what is held, and is not settled",
        [(KafkaSession, "on_partitions_revoked", _saved_when_revoked)],
    ),
    "topic-begins-where-kafka-is": (
        "a partition begins at the position that Kafka has, not at the one beside the rows",
        [(KafkaSession, "_begin", _where_kafka_is)],
    ),
    "topic-begins-at-its-end": (
        "a partition begins with what is new",
        [(KafkaSession, "_begin", _at_its_end)],
    ),
    "topic-saves-in-any-store": (
        "what was settled in a PostgreSQL that went back moves positions",
        [(PostgresMemory, "advance_cursor", saves_in_any_store)],
    ),
    "topic-saved-after-abort": (
        "reading begins again, and what was settled before moves positions",
        [(KafkaSession, "abort", _keeps_watermarks)],
    ),
}
"""Mistakes about a topic. Schedules of a topic find each."""
