"""The sources of a listener, built from its settings. Each item of SOURCE is one source; without SOURCE, WS_URL is."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

from unlost.listener.app.brokers import SCHEMES, Store, broker_of
from unlost.listener.app.settings import ListenerSettings
from unlost.listener.core.errors import Misconfigured
from unlost.listener.core.order_key import PATH
from unlost.listener.core.shard import Shard
from unlost.listener.fast.websocket import open_stream
from unlost.listener.ports.cursors import GroupCursors
from unlost.listener.ports.source import Source
from unlost.listener.source import socketio
from unlost.listener.source.brokers.address import consumer_of, same
from unlost.listener.source.feed.gaps import Declare
from unlost.listener.source.feed.source import FeedSource
from unlost.listener.source.stream.partitioned import GroupProgress, Members, PartitionedStream
from unlost.listener.source.stream.report import CursorReporter
from unlost.listener.source.stream.stream import StreamOptions, StreamSource
from unlost.listener.source.websocket.connection import Open, WebSocketOptions
from unlost.listener.source.websocket.messages import open_messages
from unlost.ops.kit.telemetry.mask import masked


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The parts of a listener that sources need.

    ``store``: the store in which events are settled now. ``declare`` declares gaps, ``open_connection`` opens WebSocket
    connections, ``members`` names the listeners that work.
    """

    settings: ListenerSettings
    cursors: GroupCursors
    store: Store
    open_connection: Open
    declare: Declare
    members: Members


Build = Callable[[Callable[[], str | None]], Source]
"""Builds a source. The argument returns the group's cursor in PostgreSQL's last answer, None if it must be read."""


BuildSources = Callable[[ListenerSettings, GroupCursors, Store, Declare, Members], Sequence[Build]]
"""Builds the sources of a listener. A simulation has others than ``builders``."""


def builders(
    settings: ListenerSettings,
    cursors: GroupCursors,
    store: Store,
    declare: Declare,
    members: Members,
    open_connection: Open | None = None,
) -> Sequence[Build]:
    """Return what builds each source of these settings, in their order."""
    usual = open_stream if settings.fast == "on" else open_messages
    here = Surroundings(settings, cursors, store, open_connection or usual, declare, members)
    items = settings.source.reveal().split()
    if not items:
        return [partial(_stream, here, settings.stream())]
    twice = {one for one in items if items.count(one) > 1}
    if twice:
        raise Misconfigured(f"SOURCE names a source twice: {masked(', '.join(sorted(twice)))}")
    return [partial(source_of, one, here) for one in items]


def check_names(names: Sequence[str]) -> None:
    """Refuse sources that would share a cursor: each would pass over what only the other has settled."""
    wrong = [
        f"{one} and {other}" for at, one in enumerate(names) for other in names[:at] if one == other or same(one, other)
    ]
    if wrong:
        raise Misconfigured(
            f"SOURCE names the same source more than once, in other words: {masked('; '.join(sorted(wrong)))}"
        )


def key_of(source: Source) -> str:
    """Return the path of the key that a source declares for its events, as feeds do; empty if it declares none."""
    return getattr(source, "key", "")


def check_order(order_by: str, sources: Sequence[Source], routes: Mapping[str, str] = MappingProxyType({})) -> None:
    """Refuse a key that is no path, and an order that a source cannot have.

    A source that gives neighbouring messages to different members of the group has none. ``routes``: the keys that a
    handler declares, by pattern of types.
    """
    for one in sources:
        if (key := key_of(one)) and not re.fullmatch(PATH, key):
            raise Misconfigured(f"SOURCE={one.name}: key={key!r} must be a path in the event, as payload.account_id")
    said = [f"ORDER_BY={order_by}"] * bool(order_by) + [f"key={key!r} of {pattern}" for pattern, key in routes.items()]
    dealt = [one for one in sources if one.shared and not one.partitioned]
    own = [f"key={key!r} of {one.name}" for one in dealt if (key := key_of(one))]
    wrong = [one.name for one in dealt if said or key_of(one)]
    if wrong:
        raise Misconfigured(
            f"{', '.join([*said, *own])} cannot be kept for {masked(', '.join(wrong))}: it gives each message to any "
            "member of the group, so no member knows which came before. Use a stream that all members read, such as "
            "ours with PARTITIONS=off or one of JetStream with ?ordered=true, or Kafka with the same key"
        )


def check_shard(group: str, order_by: str, sources: Sequence[Source], routes: Mapping[str, str]) -> None:
    """Refuse in a shard what is not for shards: keys, and sources that give a message to one of several shards.

    A shard passes over the events of others, so each must receive everything. Nobody would keep the order of a key.
    """
    if Shard.of_group(group) is None:
        return
    dealt = [
        masked(one.name) for one in sources
        if one.shared and not isinstance(one, PartitionedStream) and not one.name.endswith(f"/{consumer_of(group)}")
    ]  # fmt: skip
    if dealt:
        raise Misconfigured(
            f"{', '.join(dealt)} cannot be read by GROUP={group}: it gives each message to any one consumer, which may "
            "be in a shard that does not store it. Use a source that sends everything to each shard: our own stream, a "
            "feed without ack, a stream of RabbitMQ, or JetStream or Kafka without durable= or group="
        )
    said = [f"ORDER_BY={order_by}"] * bool(order_by) + [f"key={key!r} of {pattern}" for pattern, key in routes.items()]
    said += [f"key={key!r} of {masked(one.name)}" for one in sources if (key := key_of(one))]
    if said:
        raise Misconfigured(
            f"{', '.join(said)} cannot be kept by GROUP={group}: shards store events by their ids, so those of one key "
            "are in several of them. Order needs a group that is no shard"
        )


def source_of(item: str, here: Surroundings, saved: Callable[[], str | None]) -> Source:
    """Build the source of one item."""
    if item.startswith(("ws://", "wss://")):
        return _stream(here, here.settings.stream(item), saved)
    if item.startswith(SCHEMES):
        return broker_of(item, here.settings, here.cursors, here.store, here.declare)
    if "://" not in item or item.startswith(socketio.SCHEMES):
        return _feed(here, item)
    known = ", ".join(("ws://", "wss://", *SCHEMES, *socketio.SCHEMES))
    raise Misconfigured(f"SOURCE={masked(item)}: an address begins with one of {known}; a feed has a name or a file")


def _feed(here: Surroundings, item: str) -> Source:
    from unlost.listener.app.feeds import feed_of  # most listeners read no feed

    settings = here.settings
    name, feed = feed_of(item, max_bytes=settings.max_event_bytes)
    websocket = WebSocketOptions(max_frame=settings.max_event_bytes, keepalive=settings.keepalive)
    return FeedSource(name, feed, declare=here.declare, open_connection=here.open_connection, websocket=websocket)


def _stream(here: Surroundings, options: StreamOptions, saved: Callable[[], str | None]) -> Source:
    reports = CursorReporter(here.cursors, source=options.name, group=here.settings.group, saved=saved)
    if here.settings.partitions == "off":
        return StreamSource(options, declare=here.declare, open_connection=here.open_connection, reports=reports)
    progress = GroupProgress(here.cursors, here.settings.group, here.store, here.members)
    return PartitionedStream(
        options, progress, declare=here.declare, open_connection=here.open_connection, reports=reports
    )
