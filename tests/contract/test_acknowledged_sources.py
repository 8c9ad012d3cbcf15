"""The promises of a source that is acknowledged and shared, with real brokers: JetStream, Kafka and RabbitMQ alike."""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import urlsplit

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import OffsetOutOfRangeError
from aiokafka.structs import OffsetAndMetadata
from nats.js.api import AckPolicy, ConsumerConfig
from pamqp.commands import Basic

from tests.support.brokers import (
    ACK_WAIT,
    GROUP,
    PARTITIONS,
    Broker,
    JetStreamBroker,
    KafkaBroker,
    RabbitBroker,
    RabbitServer,
    TansuServer,
    place,
    running,
)
from tests.support.cursors import FakeCursors
from tests.support.cutting_proxy import CuttingProxy
from tests.support.reading import reading
from tests.support.taking import SECONDS, bodies, events, none, opened, receipts, taken, until_acknowledged
from unlost.listener.core.facts import SourceConnected, SourceLost
from unlost.listener.ports.source import Batch, Session, Source, SourceEnded
from unlost.listener.source.brokers import (
    jetstream,
    jetstream_pulls,
    kafka,
    kafka_unpacking,
    rabbitmq,
    rabbitmq_consumer,
)
from unlost.listener.source.brokers.address import read_address
from unlost.listener.source.brokers.kafka_session import KafkaSession
from unlost.ops.system.nats import NatsServer
from unlost.ops.system.server import Server

KINDS: dict[str, tuple[type[Server], Any]] = {
    "jetstream": (NatsServer, JetStreamBroker),
    "kafka": (TansuServer, KafkaBroker),
    "rabbitmq": (RabbitServer, RabbitBroker),
}
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def opened_again(stack: AsyncExitStack, source: Source) -> Session:
    """Open it as a reader does: until it can be opened."""
    async with asyncio.timeout(2 * SECONDS):
        while True:
            with contextlib.suppress(SourceEnded):
                return await stack.enter_async_context(source.open(none))
            await asyncio.sleep(0.1)


async def what_is_settled_is_acknowledged_and_comes_no_more(broker: Broker) -> None:
    await broker.publish(events(250))
    async with AsyncExitStack() as stack:
        session = await opened(stack, broker)
        batches = await taken(session, 250)
        assert sorted(bodies(batches)) == sorted(events(250))
        await session.settled(receipts(batches))
        await broker.publish(events(1, first=250))
        assert bodies(await taken(session, 1)) == events(1, first=250)
    async with AsyncExitStack() as stack:
        session = await opened(stack, broker)
        last = await taken(session, 1)
        assert bodies(last) == events(1, first=250)
        await session.settled(receipts(last))
    await until_acknowledged(broker, 0)


async def what_is_not_settled_comes_again(broker: Broker) -> None:
    await broker.publish(events(200))
    async with AsyncExitStack() as stack:
        session = await opened(stack, broker)
        batches = await taken(session, 200)
        settled, unsettled = receipts(batches)[::2], unsettled_of(batches)
        await session.settled(settled)
        session.abort()
        with pytest.raises(SourceEnded):
            await session.take(1, 1)
    async with AsyncExitStack() as stack:
        session = await opened(stack, broker)
        again: list[Batch] = []
        while not unsettled <= set(bodies(again)):
            again += await taken(session, 1)
        assert set(bodies(again)) <= set(events(200))
        await session.settled(receipts(again))
        await session.settled(settled)
    await until_acknowledged(broker, 0)


def unsettled_of(batches: list[Batch]) -> set[bytes]:
    """The bodies of every other receipt, from the second on."""
    found, skip = set[bytes](), True
    for batch in batches:
        at = 0
        for length, _ in batch.receipts:
            found |= set() if skip else set(batch.bodies[at : at + length])
            at, skip = at + length, not skip
    assert found
    return found


async def each_that_is_settled_is_acknowledged_before_a_session_closes(broker: Broker) -> None:
    """Also if many are settled one by one, between others that are not."""
    await broker.publish(events(200))
    async with AsyncExitStack() as stack:
        session = await opened(stack, broker)
        batches = await taken(session, 200)
        await session.settled(receipts(batches)[1::2])
        session.abort()
    await until_acknowledged(broker, 100)
    async with AsyncExitStack() as stack:
        session = await opened(stack, broker)
        again = await taken(session, 100)
        assert bodies(again) == events(200)[::2]
        await session.settled(receipts(again))
    await until_acknowledged(broker, 0)


async def a_receipt_acknowledges_nothing_on_another_channel(broker: Broker) -> None:
    """Each channel counts its deliveries from 1, so another message has that number there."""
    await broker.publish(events(20))
    async with AsyncExitStack() as stack:
        session = await opened(stack, broker)
        before = await taken(session, 20)
        session.abort()
    async with AsyncExitStack() as stack:
        session = await opened(stack, broker)
        await taken(session, 20)
        await session.settled(receipts(before))
        session.abort()
    await until_acknowledged(broker, 20)


async def what_a_member_that_stops_has_not_taken_goes_to_another_at_once(broker: Broker) -> None:
    """Not only once its session ends: that waits for events that are still processed."""
    await broker.publish(events(60))
    async with AsyncExitStack() as stack:
        stops = await opened(stack, broker)
        batch = await stops.take(10, 10_000)
        assert isinstance(batch, Batch)
        stays = await opened(stack, broker)
        await stops.give_back()
        with pytest.raises(SourceEnded, match="the listener stops"):
            await stops.take(1, 1)
        rest = await taken(stays, 60 - len(batch.bodies))
        assert {*bodies([batch])} | {*bodies(rest)} == {*events(60)}
        await stops.settled(receipts([batch]))
        await stays.settled(receipts(rest))
    await until_acknowledged(broker, 0)


async def members_share_the_messages(broker: Broker) -> None:
    found: dict[bytes, set[int]] = {}

    async def read(number: int, session: Session) -> None:
        while True:
            batch = await session.take(10, 10_000)
            assert isinstance(batch, Batch)
            for body in batch.bodies:
                found.setdefault(body, set()).add(number)
            await session.settled(receipts([batch]))

    async with AsyncExitStack() as stack:
        sessions = await asyncio.gather(opened(stack, broker), opened(stack, broker))
        reading = [asyncio.create_task(read(number, one)) for number, one in enumerate(sessions)]
        first = 0
        async with asyncio.timeout(2 * SECONDS):
            # Members may join one after another: until then the first gets all.
            while {frozenset(one) for one in found.values()} != {frozenset([0]), frozenset([1])} or len(found) < first:
                if len(found) == first:
                    found.clear()
                    await broker.publish(events(40, first))
                    first = 40
                await asyncio.sleep(0.05)
        for task in reading:
            task.cancel()
    await until_acknowledged(broker, 0)


async def an_event_without_an_id_gets_that_of_its_message(broker: Broker) -> None:
    sent = [b'{"type":"t","payload":{"a":1}}', b'{"event_id":"own","payload":1}', b"[1,2]", b"no json", b"{}"]
    await broker.publish(sent, ids=["x1", "x2", "x3", "x4", "x5"], traceparent=TRACEPARENT)
    async with AsyncExitStack() as stack:
        session = await opened(stack, broker)
        batches = await taken(session, 5)
        await session.settled(receipts(batches))
    assert sorted(bodies(batches)) == sorted([
        b'{"event_id":"x1","type":"t","payload":{"a":1}}', sent[1], b'{"event_id":"x3","payload":[1,2]}', sent[3],
        b'{"event_id":"x5"}',
    ])  # fmt: skip
    assert [trace for batch in batches for trace in batch.traces] == [{"traceparent": TRACEPARENT}] * 5
    await until_acknowledged(broker, 0)


async def an_event_without_any_id_is_known_by_its_place(broker: Broker) -> None:
    await broker.publish([b'{"payload":1}', b'{"payload":1}'])
    ids = []
    for _ in range(2 if broker.has_positions else 0):
        async with AsyncExitStack() as stack:
            session = await opened(stack, broker)
            ids.append(sorted(json.loads(body)["event_id"] for body in bodies(await taken(session, 2))))
            session.abort()
    assert ids[:1] == ids[1:], "stable when delivered again"
    assert all(len(set(one)) == 2 for one in ids), "unlike for equal messages"


async def a_place_that_does_not_exist_is_named(broker: Broker) -> None:
    with pytest.raises(SourceEnded, match=r"there is no (stream|topic|queue) absent on"):
        async with broker.source("absent").open(none):
            pass


async def at_least_one_message_is_taken_when_there_is_no_room(broker: Broker) -> None:
    await broker.publish(events(2))
    async with AsyncExitStack() as stack:
        session = await opened(stack, broker)
        found: list[Batch] = []
        async with asyncio.timeout(SECONDS):
            while len(bodies(found)) < 2:
                batch = await session.take(0, -1)
                assert isinstance(batch, Batch)
                assert len(batch.bodies) == 1
                found.append(batch)
        await session.settled(receipts(found))
    await until_acknowledged(broker, 0)


async def a_queue_that_is_deleted_ends_the_session(broker: Broker) -> None:
    assert isinstance(broker, RabbitBroker)
    async with AsyncExitStack() as stack:
        session = await opened(stack, broker)
        async with broker.channel() as channel:
            await channel.queue_delete(broker.queue)
        async with asyncio.timeout(SECONDS):
            with pytest.raises(SourceEnded, match=r"the server cancelled the consumer: the queue .* was deleted"):
                await session.take(1, 1)


async def a_stream_that_is_not_called_one_is_refused_before_its_first_message(broker: Broker) -> None:
    """The server would begin at its end, and remember no acknowledgement."""
    assert isinstance(broker, RabbitBroker)
    arguments: Any = {"x-queue-type": "stream"}
    async with broker.channel() as channel:
        await channel.queue_delete(broker.queue)
        await channel.queue_declare(broker.queue, durable=True, arguments=arguments)
    with pytest.raises(SourceEnded, match=r"is a stream, which keeps nothing for a group: write \?stream=true"):
        async with broker.source().open(none):
            pass


async def a_header_called_status_is_a_header(broker: Broker) -> None:
    assert isinstance(broker, JetStreamBroker)
    async with broker.client() as client:
        for status in ("503", "408", "x"):
            await client.jetstream().publish(f"{broker.stream}.all", b"", headers={"Status": status})
    async with AsyncExitStack() as stack:
        session = await opened(stack, broker)
        batches = await taken(session, 3)
        assert bodies(batches) == [b"", b"", b""]
        await session.settled(receipts(batches))
    await until_acknowledged(broker, 0)


async def a_consumer_without_bodies_is_refused(broker: Broker) -> None:
    assert isinstance(broker, JetStreamBroker)
    async with broker.client() as client:
        await client.jetstream().add_consumer(
            broker.stream, ConsumerConfig(durable_name=GROUP, ack_policy=AckPolicy.EXPLICIT, headers_only=True)
        )
    with pytest.raises(SourceEnded, match=r"it delivers headers without bodies \(headers_only\)"):
        async with broker.source().open(none):
            pass


UNFIT: dict[str, tuple[dict[str, Any], str]] = {
    "pushes": ({"deliver_subject": "there"}, r"it is a push consumer; a pull consumer is needed"),
    "unconfirmed": ({"ack_policy": AckPolicy.NONE}, r"its ack policy is none; it must be explicit"),
    "all at once": ({"ack_policy": AckPolicy.ALL}, r"its ack policy is all; it must be explicit"),
    "drops": ({"max_deliver": 3}, r"it drops a message after 3 deliveries; set max_deliver to -1"),
    "filtered": ({"filter_subject": "{stream}.eu"}, r"it filters by .*\.eu, and SOURCE by .*\.us"),
    "unfiltered": ({}, r"it filters by nothing, and SOURCE by .*\.us"),
}


async def a_consumer_that_would_lose_events_is_refused(broker: Broker) -> None:
    assert isinstance(broker, JetStreamBroker)
    for config, why in UNFIT.values():
        given = {"durable_name": GROUP, "ack_policy": AckPolicy.EXPLICIT, **config}
        given = {
            name: one.format(stream=broker.stream) if name == "filter_subject" else one for name, one in given.items()
        }
        async with broker.client() as client:
            await client.jetstream().add_consumer(broker.stream, ConsumerConfig(**given))
            filtered = "filters" in why
            with pytest.raises(SourceEnded, match=why):
                async with broker.source(options=f"&filter={broker.stream}.us" if filtered else "").open(none):
                    pass
            await client.jetstream().delete_consumer(broker.stream, GROUP)


async def a_header_that_a_stream_has_may_stand_in_any_queue(broker: Broker) -> None:
    assert isinstance(broker, RabbitBroker)
    async with broker.channel() as channel:
        await channel.basic_publish(
            events(1)[0], routing_key=broker.queue, properties=Basic.Properties(headers={"x-stream-offset": 7})
        )
    async with AsyncExitStack() as stack:
        session = await opened(stack, broker)
        batches = await taken(session, 1)
        assert bodies(batches) == events(1)
        await session.settled(receipts(batches))
    await until_acknowledged(broker, 0)


async def what_members_settle_after_partitions_moved_is_not_committed(broker: Broker) -> None:
    """Their positions stay where they were, and what comes after these is read again."""
    assert isinstance(broker, KafkaBroker)
    await broker.publish(events(200))
    async with AsyncExitStack() as stack:
        one = await opened(stack, broker)
        assert isinstance(one, KafkaSession)
        before = receipts(await taken(one, 200))
        first = {receipt.cursor.partition("@")[0]: receipt for receipt in reversed(before)}
        await one.settled([*first.values()])
        saved = {name: receipt.cursor for name, receipt in first.items()}
        left = 200 - sum(int(cursor.partition("@")[2]) for cursor in saved.values())
        again: list[tuple[Session, Batch]] = []
        other = await opened(stack, broker)
        reading = [asyncio.create_task(keep_taking(session, again)) for session in (one, other)]
        async with asyncio.timeout(2 * SECONDS):
            while len({*bodies([batch for _, batch in again])}) < left:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        for task in reading:
            task.cancel()
        assert {session for session, _ in again} == {one, other}
        await one.settled([receipt for receipt in before if receipt not in first.values()])
        await one.save()
        for partition, cursor in saved.items():
            number = partition.partition("/")[2]
            assert await broker.cursors.read(f"{broker.source().name}/{number}", GROUP) == cursor
        await until_acknowledged(broker, left)
        for session, batch in again:
            await session.settled(receipts([batch]))
        await until_acknowledged(broker, 0)


class Remembered:
    """Metadata of positions. The server of these tests drops it, so it is kept between its clients."""

    def __init__(self) -> None:
        self.all: dict[TopicPartition, str] = {}

    def consumer(self, **options: Any) -> AIOKafkaConsumer:
        class Committing(AIOKafkaConsumer):  # type: ignore[misc]
            async def commit(_, offsets: dict[TopicPartition, OffsetAndMetadata]) -> None:  # noqa: N805
                self.all |= {one: at.metadata for one, at in offsets.items()}
                await AIOKafkaConsumer.commit(_, offsets)

        return Committing(**options)

    def admin(self, **options: Any) -> AIOKafkaAdminClient:
        class Asking(AIOKafkaAdminClient):  # type: ignore[misc]
            async def list_consumer_group_offsets(_, *args: Any, **named: Any) -> dict[TopicPartition, Any]:  # noqa: N805
                found = await AIOKafkaAdminClient.list_consumer_group_offsets(_, *args, **named)
                return {one: at._replace(metadata=self.all.get(one, "")) for one, at in found.items()}

        return Asking(**options)


async def a_group_whose_postgresql_is_lost_reads_everything_again(broker: Broker) -> None:
    """Kafka has its position still, but the rows of what was committed are gone."""
    assert isinstance(broker, KafkaBroker)
    remembered = Remembered()
    broker.clients = {"consumer": remembered.consumer, "admin": remembered.admin}
    await broker.publish(events(20))
    async with AsyncExitStack() as stack:
        session = await opened(stack, broker)
        await session.settled(receipts(await taken(session, 20)))
    await until_acknowledged(broker, 0)
    broker.cursors, broker.start_from = FakeCursors(), "now"
    async with AsyncExitStack() as stack:
        session = await opened(stack, broker)
        assert sorted(bodies(await taken(session, 20))) == sorted(events(20))


async def nothing_is_committed_that_is_not_settled(broker: Broker) -> None:
    """Neither by the library, as it does by default now and then, and when a member leaves."""
    await broker.publish(events(20))
    async with AsyncExitStack() as stack:
        await taken(await opened(stack, broker), 20)
    assert await broker.unacknowledged() == 20


class Hanging(FakeCursors):
    """A PostgreSQL that answers no save."""

    async def advance(self, *_: Any) -> str | None:
        await asyncio.Event().wait()
        return None


async def a_partition_is_given_up_although_its_position_cannot_be_saved(broker: Broker) -> None:
    """Else one silent PostgreSQL would keep the whole consumer group from dividing the partitions."""
    assert isinstance(broker, KafkaBroker)
    broker.cursors = Hanging()
    await broker.publish(events(20))
    async with AsyncExitStack() as stack:
        session = await opened(stack, broker)
        assert isinstance(session, KafkaSession)
        await session.settled(receipts(await taken(session, 20)))
        async with asyncio.timeout(SECONDS):
            await session.on_partitions_revoked([TopicPartition(broker.topic, one) for one in range(PARTITIONS)])


async def a_group_goes_on_where_another_program_was(broker: Broker) -> None:
    assert isinstance(broker, KafkaBroker)
    await broker.publish(events(20))
    before = AIOKafkaConsumer(bootstrap_servers=broker.server.host, group_id=f"of-{broker.topic}")
    await before.start()
    before.assign([TopicPartition(broker.topic, one) for one in range(PARTITIONS)])
    await before.commit({TopicPartition(broker.topic, one): 8 for one in range(PARTITIONS)})
    await before.stop()
    async with AsyncExitStack() as stack:
        session = await opened(stack, broker)
        assert sorted(bodies(await taken(session, 4))) == sorted(events(4, first=16))


async def keep_taking(session: Session, into: list[tuple[Session, Batch]]) -> None:
    while True:
        batch = await session.take(100, 100_000)
        assert isinstance(batch, Batch)
        into.append((session, batch))


async def a_connection_that_is_silent_is_noticed_and_opened_again(broker: Broker) -> None:
    """By the heartbeats of AMQP: the library allows three times this interval, and three seconds."""
    assert isinstance(broker, RabbitBroker)
    async with CuttingProxy(f"amqp://{broker.server.host}") as proxy:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(rabbitmq, "HEARTBEAT", 1)
            address = broker.address.replace(broker.server.host, urlsplit(proxy.url).netloc)
            given = read_address(address, what="QUEUE", port=5672, options=rabbitmq.OPTIONS)
            source = rabbitmq.Rabbit(rabbitmq.options_of(given, max_events=1_000))
        async with reading("", source=source) as one:
            await one.until(lambda r: bool(r.of(SourceConnected)), SECONDS)
            proxy.swallow()
            await one.until(lambda r: bool(r.of(SourceLost)), SECONDS)
            assert [lost.why for lost in one.of(SourceLost)] == ["RabbitMQ sent neither messages nor heartbeats"]
            proxy.pass_again()
            await one.until(lambda r: len(r.of(SourceConnected)) == 2, SECONDS)


QUESTIONS = (
    at_least_one_message_is_taken_when_there_is_no_room,
    what_is_settled_is_acknowledged_and_comes_no_more,
    what_is_not_settled_comes_again,
    members_share_the_messages,
    an_event_without_an_id_gets_that_of_its_message,
    an_event_without_any_id_is_known_by_its_place,
    a_place_that_does_not_exist_is_named,
)
OF_ONE_KIND: dict[str, tuple[Callable[[Broker], Awaitable[None]], ...]] = {
    "rabbitmq": (
        each_that_is_settled_is_acknowledged_before_a_session_closes,
        a_receipt_acknowledges_nothing_on_another_channel,
        what_a_member_that_stops_has_not_taken_goes_to_another_at_once,
        a_queue_that_is_deleted_ends_the_session,
        a_stream_that_is_not_called_one_is_refused_before_its_first_message,
        a_header_that_a_stream_has_may_stand_in_any_queue,
        a_connection_that_is_silent_is_noticed_and_opened_again,
    ),
    "kafka": (
        what_members_settle_after_partitions_moved_is_not_committed,
        a_group_whose_postgresql_is_lost_reads_everything_again,
        nothing_is_committed_that_is_not_settled,
        a_group_goes_on_where_another_program_was,
        a_partition_is_given_up_although_its_position_cannot_be_saved,
    ),
    "jetstream": (
        what_a_member_that_stops_has_not_taken_goes_to_another_at_once,
        a_header_called_status_is_a_header,
        a_consumer_without_bodies_is_refused,
        a_consumer_that_would_lose_events_is_refused,
    ),
}


@pytest.mark.timeout(300)  # a server of Erlang may take two minutes to start beside other tests
@pytest.mark.parametrize("kind", KINDS)
async def test_a_broker_answers_every_question(kind: str) -> None:
    """All are asked at once: a group of Kafka takes seconds to form."""
    make_server, make_broker = KINDS[kind]
    with running(make_server) as server:

        async def ask(question: Callable[[Broker], Awaitable[None]]) -> None:
            broker = make_broker(server, place(question.__name__))
            await broker.make()
            await question(broker)

        answers = await asyncio.gather(*map(ask, (*QUESTIONS, *OF_ONE_KIND.get(kind, ()))), return_exceptions=True)
    failed = [one for one in answers if isinstance(one, BaseException)]  # a failure of pytest is no Exception
    if failed:
        raise BaseExceptionGroup(f"{kind} failed", failed)


@pytest.mark.parametrize("kind", ["jetstream"])
async def test_a_server_that_restarts_ends_the_session_and_forgets_nothing(kind: str) -> None:
    """Kafka's stand-in keeps everything in memory: it cannot be asked."""
    make_server, make_broker = KINDS[kind]
    with running(make_server) as server:
        broker = make_broker(server, "restarted")
        await broker.make()
        await restarted(broker)


async def restarted(broker: Broker) -> None:
    await broker.publish(events(20))
    source = broker.source()
    # What outlives a session belongs to the source.
    async with source.open(none) as session:
        before = await taken(session, 20)
        await session.settled(receipts(before)[:10])
        await asyncio.sleep(0.2)
        await broker.cut()
        with pytest.raises(SourceEnded):
            async with asyncio.timeout(SECONDS):
                await session.take(1, 1)
    async with AsyncExitStack() as stack:
        session = await opened_again(stack, source)
        await session.settled(receipts(before))
        await broker.publish(events(1, first=20))
        async with asyncio.timeout(SECONDS):
            last: list[bytes] = []
            while events(1, first=20)[0] not in last:
                batch = await taken(session, 1)
                await session.settled(receipts(batch))
                last += bodies(batch)
    await until_acknowledged(broker, 0)


async def test_messages_that_a_stream_dropped_unread_are_declared_once() -> None:
    with running(NatsServer) as server:
        broker = JetStreamBroker(server, "limited")
        async with broker.client() as client:
            await client.jetstream().add_stream(name="limited", subjects=["limited.>"], max_msgs=10)
        source = broker.source()
        await broker.publish(events(5))
        async with source.open(none) as session:
            assert session.opening.dropped is None, "a consumer that is new begins where the stream begins"
            await session.settled(receipts(await taken(session, 5)))
        await until_acknowledged(broker, 0)
        await broker.publish(events(30, first=5))
        async with source.open(none) as session:
            dropped = session.opening.dropped
            assert dropped is not None
            assert dropped[:3] == (20, "limited@5", "limited@26")
        async with broker.source().open(none) as peer:
            assert peer.opening.dropped == dropped, "so that it is recorded once"
        async with source.open(none) as session:
            assert session.opening.dropped is None


def missing(broker: JetStreamBroker) -> int:
    """Count what was declared: looks may divide it."""
    return sum(fields["missing"] for _, fields in broker.gaps.all)


async def test_messages_that_a_stream_drops_during_reading_are_declared(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader takes nothing for a while, so nothing more is asked for. The stream's limits go on."""
    monkeypatch.setattr(jetstream, "LOOK_SECONDS", 0.2)
    monkeypatch.setattr(jetstream_pulls, "AHEAD", 10)
    with running(NatsServer) as server:
        broker = JetStreamBroker(server, "limited")
        async with broker.client() as client:
            await client.jetstream().add_stream(name="limited", subjects=["limited.>"], max_msgs=10)
        await broker.publish(events(10))
        async with AsyncExitStack() as stack:
            session = await opened(stack, broker)
            client = await stack.enter_async_context(broker.client())
            async with asyncio.timeout(SECONDS):
                while (await client.jetstream().consumer_info("limited", GROUP)).num_pending:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
                await broker.publish(events(30, first=10))
                while missing(broker) < 20:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            assert bodies(await taken(session, 20)) == [*events(10), *events(10, first=30)]
        assert missing(broker) == 20
        how, fields = broker.gaps.all[-1]
        assert (how, fields["resumed_at"]) == ("expired", "limited@31")


async def test_redeliveries_do_not_hide_what_a_stream_drops(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many are delivered again as are removed unread, between two looks."""
    monkeypatch.setattr(jetstream_pulls, "AHEAD", 20)
    with running(NatsServer) as server:
        broker = JetStreamBroker(server, "limited")
        async with broker.client() as client:
            await client.jetstream().add_stream(name="limited", subjects=["limited.>"], max_msgs=20)
        await broker.publish(events(20))
        async with broker.source().open(
            none
        ) as first:  # it ends as if killed: what it holds comes again after ACK_WAIT
            await taken(first, 20)
        monkeypatch.setattr(jetstream, "LOOK_SECONDS", 3 * ACK_WAIT)
        async with AsyncExitStack() as stack:
            session = await opened(stack, broker)
            client = await stack.enter_async_context(broker.client())
            async with asyncio.timeout(SECONDS):
                while (await client.jetstream().consumer_info("limited", GROUP)).delivered.consumer_seq < 40:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
                await broker.publish(events(40, first=20))
                assert len(bodies(await taken(session, 40))) == 40
                while missing(broker) < 20:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
        assert missing(broker) == 20


@pytest.mark.timeout(300)
async def test_rabbitmq_sends_ahead_as_many_messages_as_their_size_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rabbitmq_consumer, "FIRST_AHEAD", 20)
    monkeypatch.setattr(rabbitmq_consumer, "BYTES_AHEAD", 100_000)
    with running(RabbitServer) as server:
        for name, size, fewest, most in (("large", 9_000, 0, 30), ("small", 10, 150, 190)):
            broker = RabbitBroker(server, name)
            await broker.make()
            await broker.publish([b'"%d%b"' % (n, b"x" * size) for n in range(400)])
            async with AsyncExitStack() as stack:
                session = await opened(stack, broker)
                count = 0
                while count < 60:
                    batch = await session.take(20, 1_000_000)
                    assert isinstance(batch, Batch)
                    await session.settled(receipts([batch]))
                    count += len(batch.bodies)
                async with asyncio.timeout(SECONDS):
                    while (ahead := 400 - count - await broker.unacknowledged()) < fewest:  # noqa: ASYNC110
                        await asyncio.sleep(0.05)
                assert ahead <= most
        await much_larger_messages_than_before_end_the_session(server)
        await what_is_held_for_longer_than_the_server_waits_comes_again(server)


async def take_slowly(session: Session) -> None:
    while True:
        await session.take(1, 1)
        await asyncio.sleep(0.05)


async def much_larger_messages_than_before_end_the_session(server: RabbitServer) -> None:
    """Before they fill the memory; the next session begins with fewer ahead."""
    broker = RabbitBroker(server, "grown")
    await broker.make()
    source = broker.source()
    await broker.publish(events(200))
    async with source.open(none) as session:
        await session.settled(receipts(await taken(session, 200)))
        await broker.publish([b'"%d%b"' % (n, b"x" * 9_000) for n in range(150)])
        async with asyncio.timeout(SECONDS):
            with pytest.raises(SourceEnded, match="messages are much larger than those before"):
                await take_slowly(session)
    found: set[bytes] = set()
    async with source.open(none) as session:
        while len(found) < 150:
            batches = await taken(session, 1)
            await session.settled(receipts(batches))
            found |= {*bodies(batches)}
    await until_acknowledged(broker, 0)


async def what_is_held_for_longer_than_the_server_waits_comes_again(server: RabbitServer) -> None:
    """AMQP has no way to extend a message: the server closes the channel, and the session says why it ended."""
    await asyncio.to_thread(server.evaluate, "application:set_env(rabbit, consumer_timeout, 500)")
    await asyncio.to_thread(server.evaluate, "application:set_env(rabbit, channel_tick_interval, 100)")
    broker = RabbitBroker(server, "held")
    await broker.make()
    await broker.publish(events(1))
    source = broker.source()
    async with source.open(none) as session:
        await taken(session, 1)
        async with asyncio.timeout(SECONDS):
            with pytest.raises(SourceEnded, match=r"delivery acknowledgement on channel .* timed out"):
                await session.take(1, 1)
    async with source.open(none) as session:
        again = await taken(session, 1)
        assert bodies(again) == events(1)
        await session.settled(receipts(again))
    await until_acknowledged(broker, 0)


class Truncated(AIOKafkaConsumer):  # type: ignore[misc]
    """Reads a topic whose oldest messages retention has removed: the server of these tests removes none."""

    oldest = 0

    async def getmany(self, *partitions: TopicPartition, **options: Any) -> dict[TopicPartition, list[Any]]:
        for one in self.assignment():
            if (at := await self.position(one)) < self.oldest:
                raise OffsetOutOfRangeError({one: at})
        found: dict[TopicPartition, list[Any]] = await super().getmany(*partitions, **options)
        return found

    async def beginning_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, self.oldest)

    async def end_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, 50)


async def test_messages_that_kafka_removed_unread_are_declared_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka, "AIOKafkaConsumer", Truncated)
    with running(TansuServer) as server:
        broker = KafkaBroker(server, "limited")
        await broker.make()
        await broker.publish(events(100))
        async with AsyncExitStack() as stack:
            session = await opened(stack, broker)
            Truncated.oldest = 20
            assert len(bodies(await taken(session, 60))) == 60
            session.abort()
        assert sorted(broker.gaps.all, key=str) == [
            ("expired", {"after": f"limited/{n}@0", "resumed_at": f"limited/{n}@20", "missing": 20}) for n in (0, 1)
        ]
        async with AsyncExitStack() as stack:
            session = await opened(stack, broker)
            assert len(bodies(await taken(session, 60))) == 60, "nothing of it was settled"
        assert len(broker.gaps.all) == 2


async def test_a_leader_of_kafka_that_has_not_caught_up_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    class Behind(AIOKafkaConsumer):  # type: ignore[misc]
        asked = 0

        async def getmany(self, *partitions: TopicPartition, **options: Any) -> dict[TopicPartition, list[Any]]:
            Behind.asked += 1
            if Behind.asked == 1:
                raise OffsetOutOfRangeError(dict.fromkeys(self.assignment(), 0))
            found: dict[TopicPartition, list[Any]] = await super().getmany(*partitions, **options)
            return found

    monkeypatch.setattr(kafka, "AIOKafkaConsumer", Behind)
    with running(TansuServer) as server:
        broker = KafkaBroker(server, "behind")
        await broker.make()
        await broker.publish(events(20))
        async with AsyncExitStack() as stack:
            session = await opened(stack, broker)
            assert sorted(bodies(await taken(session, 20))) == sorted(events(20))
        assert broker.gaps.all == []


async def test_a_topic_of_kafka_that_was_created_again_is_read_from_its_beginning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Shorter(Truncated):
        async def getmany(self, *partitions: TopicPartition, **options: Any) -> dict[TopicPartition, list[Any]]:
            for one in self.assignment():
                if (at := await self.position(one)) > 50:
                    raise OffsetOutOfRangeError({one: at})
            found: dict[TopicPartition, list[Any]] = await AIOKafkaConsumer.getmany(self, *partitions, **options)
            return found

    Truncated.oldest = 0
    monkeypatch.setattr(kafka, "AIOKafkaConsumer", Shorter)
    with running(TansuServer) as server:
        broker = KafkaBroker(server, "again")
        await broker.make()
        await broker.publish(events(100))
        for n in (0, 1):
            name = f"kafka://{server.host}/again/of-again/{n}"
            await broker.cursors.start(name, GROUP, f"again/{n}@70")
        async with AsyncExitStack() as stack:
            session = await opened(stack, broker)
            assert len(bodies(await taken(session, 100))) == 100
        assert sorted(broker.gaps.all, key=str) == [
            ("unknown_cursor", {"after": f"again/{n}@70", "resumed_at": f"again/{n}@0"}) for n in (0, 1)
        ]


async def test_a_partition_that_was_added_later_is_read_from_its_beginning() -> None:
    """Also by a group that began with what was new then: everything in this partition is newer than that."""
    with running(TansuServer) as server:
        broker = KafkaBroker(server, "grown")
        await broker.make()
        broker.start_from = "now"
        await broker.cursors.start(f"kafka://{server.host}/grown/of-grown/0", GROUP, "grown/0@0")
        for partition in range(PARTITIONS):
            await broker.publish_to(partition, events(1, first=partition)[0])
        async with AsyncExitStack() as stack:
            session = await opened(stack, broker)
            assert sorted(bodies(await taken(session, 2))) == events(2)


async def test_a_new_group_that_begins_now_reads_nothing_of_before() -> None:
    with running(TansuServer) as server:
        broker = KafkaBroker(server, "now")
        await broker.make()
        broker.start_from = "now"
        for partition in range(PARTITIONS):
            await broker.publish_to(partition, events(1)[0])
        for number in (1, 2):  # the second session has positions, and another would be new to it
            async with AsyncExitStack() as stack:
                session = await opened(stack, broker)
                for partition in range(PARTITIONS):
                    await broker.publish_to(partition, events(1, first=number)[0])
                last = await taken(session, PARTITIONS)
                assert bodies(last) == events(1, first=number) * PARTITIONS
                await session.settled(receipts(last))


async def test_a_batch_that_unpacks_to_too_much_ends_the_session_and_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_unpacking, "UNPACKED_BYTES", 100_000)
    with running(TansuServer) as server:
        broker = KafkaBroker(server, "packed")
        await broker.make()
        await broker.publish_to(1, events(1)[0])
        async with AsyncExitStack() as stack:
            session = await opened(stack, broker)
            assert bodies(await taken(session, 1)) == events(1)
            await broker.publish_to(1, b'"%b"' % bytes(500_000), compression="gzip")
            with pytest.raises(SourceEnded, match=r"a batch of packed/1@1 cannot be unpacked: .*100,000.*declared gap"):
                await taken(session, 1)
