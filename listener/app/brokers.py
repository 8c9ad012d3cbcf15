"""The brokers among a listener's sources. An adapter, and with it its library, is imported only if SOURCE names it."""

from collections.abc import Callable

from unlost.listener.app.extra import extra
from unlost.listener.app.settings import ListenerSettings
from unlost.listener.core.store_mark import StoreMark
from unlost.listener.ports.cursors import GroupCursors
from unlost.listener.ports.source import Source
from unlost.listener.source.brokers.address import read_address
from unlost.listener.source.feed.gaps import Declare

SCHEMES = ("nats://", "kafka://", "amqp://", "amqps://")
"""The schemes of brokers' addresses."""
Store = Callable[[], StoreMark | None]


def broker_of(item: str, settings: ListenerSettings, cursors: GroupCursors, store: Store, declare: Declare) -> Source:
    """Build the source for the address of a broker."""
    if item.startswith("nats://"):
        return _jetstream(item, settings, declare)
    if item.startswith("kafka://"):
        return _kafka(item, settings, cursors, store, declare)
    return _rabbitmq(item, settings, cursors, declare)


def _jetstream(item: str, settings: ListenerSettings, declare: Declare) -> Source:
    with extra("nats", item):
        from unlost.listener.source.brokers.jetstream import OPTIONS, JetStream, options_of
        from unlost.listener.source.brokers.jetstream_ordered import OrderedJetStream, ordered_options_of
    address = read_address(item, what="STREAM", port=4222, options=OPTIONS)
    if "ordered" in address.options:
        return OrderedJetStream(ordered_options_of(address, group=settings.group), declare)
    options = options_of(
        address, group=settings.group, lease=settings.lease, start_from=settings.start_from,
        max_events=settings.max_events,
    )  # fmt: skip
    return JetStream(options, declare)


def _kafka(item: str, settings: ListenerSettings, cursors: GroupCursors, store: Store, declare: Declare) -> Source:
    with extra("kafka", item):
        from unlost.listener.source.brokers.kafka import OPTIONS, Kafka, options_of
        from unlost.listener.source.brokers.kafka_session import Positions
    address = read_address(item, what="TOPIC", port=9092, options=OPTIONS)
    options = options_of(address, group=settings.group, start_from=settings.start_from)
    return Kafka(options, Positions(cursors, settings.group, store, declare))


def _rabbitmq(item: str, settings: ListenerSettings, cursors: GroupCursors, declare: Declare) -> Source:
    with extra("rabbitmq", item):
        from unlost.listener.source.brokers.rabbitmq import OPTIONS, Rabbit, options_of
        from unlost.listener.source.brokers.rabbitmq_stream import RabbitStream, ReadingGroup
    address = read_address(item, what="QUEUE", port=5672, options=OPTIONS)
    options = options_of(address, max_events=settings.max_events)
    if options.stream:
        return RabbitStream(options, ReadingGroup(cursors, settings.group, settings.start_from), declare)
    return Rabbit(options)
