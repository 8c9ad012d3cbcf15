"""Events that are held for long are not delivered again, and a silent broker is noticed. With real brokers."""

import asyncio
import gc
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.consumer import subscription_state

from tests.support.brokers import JetStreamBroker, KafkaBroker, OrderedJetStreamBroker, TansuServer, running
from tests.support.reading import Reading, reading
from tests.support.taking import SECONDS, events, none, opened, receipts, taken, until_acknowledged
from unlost.listener.core.facts import SourceConnected, SourceLost
from unlost.listener.ports.source import Source
from unlost.listener.source.brokers import jetstream_pulls, kafka, kafka_session
from unlost.ops.system.nats import NatsServer

# aiokafka leaves connections to a silent broker to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
HELD_SECONDS = 2.0


@pytest.fixture(autouse=True)
def _collected() -> Iterator[None]:
    yield
    gc.collect()


class PatientBroker(JetStreamBroker):
    """Its consumer redelivers soon, but not so soon that a busy machine is too slow."""

    @property
    def address(self) -> str:
        return super().address.replace("ack_wait=1.0", f"ack_wait={HELD_SECONDS}")


async def test_jetstream_does_not_deliver_again_what_is_held_for_longer_than_ack_wait() -> None:
    with running(NatsServer) as server:
        broker = PatientBroker(server, "held")
        await broker.make()
        await broker.publish(events(1))
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(broker.client())
            answers = await client.subscribe("$JS.ACK.held.>")
            session = await opened(stack, broker)
            batches = await taken(session, 1)
            for _ in range(3):  # an extension each half of ack_wait, or later
                assert (await answers.next_msg(timeout=SECONDS)).data == b"+WPI"
            known = await client.jetstream().consumer_info("held", "tested")
            assert (known.delivered and known.delivered.consumer_seq, known.num_redelivered) == (1, 0)
            await session.settled(receipts(batches))
        await until_acknowledged(broker, 0)


class PatientForLong(JetStreamBroker):
    """Its consumer redelivers by itself only after the test."""

    @property
    def address(self) -> str:
        return super().address.replace("ack_wait=1.0", "ack_wait=600")


async def test_jetstream_delivers_at_once_what_a_session_that_reads_again_holds() -> None:
    with running(NatsServer) as server:
        broker = PatientForLong(server, "again")
        await broker.make()
        await broker.publish(events(3))
        source = broker.source()
        async with source.open(none) as session:
            await taken(session, 3)
            session.abort()
        async with source.open(none) as session:
            batches = await taken(session, 3)
            await session.settled(receipts(batches))
        await until_acknowledged(broker, 0)


class LaterClock:
    """The time of the library's watch for idle readers."""

    def __init__(self) -> None:
        self.ahead = 0.0
        self.asked = 0

    def monotonic(self) -> float:
        self.asked += 1
        return time.monotonic() + self.ahead


async def test_kafka_keeps_the_partitions_of_a_reader_that_takes_nothing_for_hours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = LaterClock()
    monkeypatch.setattr(subscription_state, "time", clock)
    with running(TansuServer) as server:
        broker = KafkaBroker(server, "held")
        await broker.make()
        await broker.publish(events(10))
        async with AsyncExitStack() as stack:
            session = await opened(stack, broker)
            batches = await taken(session, 10)
            clock.ahead, clock.asked = 6 * 3600.0, 0
            async with asyncio.timeout(SECONDS):
                while clock.asked < 3:  # noqa: ASYNC110  heartbeats announce nothing
                    await asyncio.sleep(0.05)
            await session.settled(receipts(batches))
            await until_acknowledged(broker, 0)


@asynccontextmanager
async def reads(source: Source) -> AsyncIterator[Reading]:
    async with reading("", source=source) as one:
        await one.until(lambda r: bool(r.of(SourceConnected)), SECONDS)
        yield one


async def until_read(one: Reading, body: bytes) -> None:
    async with asyncio.timeout(2 * SECONDS):
        while body not in one.inlet.bodies:  # noqa: ASYNC110  what is read is no fact
            await asyncio.sleep(0.02)


def lost_by(words: str) -> Callable[[Reading], bool]:
    return lambda one: any(words in lost.why for lost in one.of(SourceLost))


@pytest.mark.parametrize("kind", [JetStreamBroker, OrderedJetStreamBroker])
async def test_a_jetstream_that_is_silent_is_noticed_and_read_again(
    kind: type[JetStreamBroker], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jetstream_pulls, "HEARTBEAT", 0.2)
    monkeypatch.setattr(jetstream_pulls, "SILENCE", 1.0)
    with running(NatsServer) as server:
        broker = kind(server, "silent")
        await broker.make()
        async with broker.client() as client, reads(broker.source()) as one:
            requests = await client.subscribe("$JS.API.CONSUMER.MSG.NEXT.>")
            await broker.publish(events(1))
            await until_read(one, *events(1))
            server.freeze()
            await one.until(lost_by("JetStream sent neither messages nor heartbeats for 1 seconds"), SECONDS)
            server.thaw()
            await broker.publish(events(1, first=1))
            await until_read(one, *events(1, first=1))
            request = json.loads((await requests.next_msg(timeout=SECONDS)).data)
            assert request["idle_heartbeat"] == 200_000_000, "else a quiet stream would seem dead"


class Spare(AIOKafkaConsumer):  # type: ignore[misc]
    """A member of a group that has more members than partitions, as far as it knows."""

    def assignment(self) -> frozenset[TopicPartition]:
        return frozenset()


@pytest.mark.parametrize("member", [AIOKafkaConsumer, Spare])
async def test_a_kafka_that_is_silent_is_noticed_and_read_again(
    member: type[AIOKafkaConsumer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka, "AIOKafkaConsumer", member)
    monkeypatch.setattr(kafka_session, "LOOK_SECONDS", 1.0)
    with running(TansuServer) as server:
        broker = KafkaBroker(server, "silent")
        await broker.make()
        async with reads(broker.source()) as one:
            await broker.publish(events(1))
            await until_read(one, *events(1))
            server.freeze()
            await one.until(lost_by("Kafka did not answer for 1 seconds"), SECONDS)
            server.thaw()
            await broker.publish(events(1, first=1))
            await until_read(one, *events(1, first=1))
