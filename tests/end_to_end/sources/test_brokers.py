"""Two listeners share a broker; one is killed, the broker restarts. No event is lost, doubled or acknowledged early."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.end_to_end.faults.conftest import ListenerProcess, assert_law, letters, open_letters
from tests.end_to_end.sources.handlers import slowly
from tests.support.brokers import (
    Broker,
    DurableTansuServer,
    JetStreamBroker,
    KafkaBroker,
    RabbitBroker,
    RabbitServer,
    RabbitStreamBroker,
    running,
)
from tests.support.listeners import rows_of
from unlost.ops.system.nats import NatsServer

EACH = 200
SECONDS = 30


def events(first: int) -> list[bytes]:
    return [b'{"event_id":"e%d","payload":%d}' % (number, number) for number in range(first, first + EACH)]


class Ledger:
    """Compares what was acknowledged to the broker with what is durable, while listeners run."""

    def __init__(self, broker: Broker, database: asyncpg.Connection, directory: Path) -> None:
        self._broker = broker
        self._database = database
        self._directory = directory
        self.published = 0

    async def durable(self) -> int:
        return len(await self.durable_ids())

    async def durable_ids(self) -> set[str]:
        rows = await self._database.fetch("select event_id from unlost.events")
        return {row[0] for row in rows} | {one.event_id for name in "ab" for one in letters(self._directory, name)}

    async def cursor(self) -> int:
        """The offset that the group reads next."""
        text = await self._database.fetchval("select cursor from unlost.cursors")
        return int((text or "@0").rpartition("@")[2])

    async def check(self) -> int:
        """Return how many events are durable. At no time may more be acknowledged."""
        acknowledged = self.published - await self._broker.unacknowledged()
        durable = await self.durable()  # asked later: it may only have grown
        assert acknowledged <= durable
        return durable

    async def until_durable(self, count: int) -> None:
        async with asyncio.timeout(2 * SECONDS):
            while await self.durable() < count:  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    async def until(self, count: int) -> None:
        async with asyncio.timeout(SECONDS):
            while await self.check() < count:  # noqa: ASYNC110  neither side announces it
                await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def ledger_of(broker: Broker, database_url: str, directory: Path) -> AsyncIterator[Ledger]:
    connection = await asyncpg.connect(database_url)
    try:
        yield Ledger(broker, connection, directory)
    finally:
        await connection.close()


async def publish(broker: Broker, ledger: Ledger) -> None:
    await broker.publish(events(ledger.published))
    ledger.published += EACH


async def two_listeners(broker: Broker, directory: Path, processes: list[ListenerProcess], **settings: Any) -> None:
    settings |= {
        "source": broker.address,
        "handler": f"{slowly.__module__}:{slowly.__name__}",
        "handle_concurrency": "8",
    }
    processes += [ListenerProcess(directory, name, **settings) for name in "ab"]
    await asyncio.gather(*(asyncio.to_thread(one.start) for one in processes))


def waiting_letters(directory: Path) -> list[Any]:
    return open_letters(directory, "a") + open_letters(directory, "b")


async def until_no_event_has_two_letters(directory: Path) -> None:
    """A listener that is killed after it wrote a letter may leave it beside that of a peer, until its next start."""
    async with asyncio.timeout(SECONDS):
        while True:
            ids = [one.event_id for one in waiting_letters(directory)]
            if len(ids) == len({*ids}):
                return
            await asyncio.sleep(0.05)


async def kept_the_law(broker: Broker, ledger: Ledger, database_url: str, directory: Path) -> None:
    """All that was published is durable, once, and acknowledged."""
    await ledger.until(ledger.published)
    async with asyncio.timeout(SECONDS):
        while await broker.unacknowledged():  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    await all_is_once(ledger, database_url, directory)


async def all_is_once(ledger: Ledger, database_url: str, directory: Path) -> None:
    """Each event is a row or a letter that waits. Letters that no longer wait are of the same events."""
    await until_no_event_has_two_letters(directory)
    ids = {f"e{number}" for number in range(ledger.published)}
    assert_law(ids, await rows_of(database_url), waiting_letters(directory))
    written = {(one.event_id, one.event, one.reason) for name in "ab" for one in letters(directory, name)}
    assert len(written) == len(waiting_letters(directory)), "a second letter says what the first one says"


async def test_jetstream_keeps_the_law_when_a_listener_is_killed_and_the_server_restarts(
    redis_url: str, database_url: str, tmp_path: Path, processes: list[ListenerProcess]
) -> None:
    with running(NatsServer) as server:
        broker = JetStreamBroker(server, "orders")
        await broker.make()
        await two_listeners(broker, tmp_path, processes, redis_url=redis_url, database_url=database_url)
        async with ledger_of(broker, database_url, tmp_path) as ledger:
            await publish(broker, ledger)
            await ledger.until(EACH // 4)
            processes[0].child.kill()
            await ledger.check()
            await broker.cut()
            await publish(broker, ledger)
            await ledger.until(EACH)
            await asyncio.to_thread(processes[0].start)
            await kept_the_law(broker, ledger, database_url, tmp_path)


async def test_kafka_keeps_the_law_when_a_listener_is_killed_and_the_server_restarts(
    redis_url: str, database_url: str, tmp_path: Path, processes: list[ListenerProcess]
) -> None:
    """The partitions of the killed listener move to the other."""
    with running(DurableTansuServer) as server:
        broker = KafkaBroker(server, "orders")
        await broker.make()
        await two_listeners(broker, tmp_path, processes, redis_url=redis_url, database_url=database_url)
        async with ledger_of(broker, database_url, tmp_path) as ledger:
            await publish(broker, ledger)
            await ledger.until(EACH // 4)
            processes[0].child.kill()
            await ledger.check()
            await broker.cut()
            await publish(broker, ledger)
            await ledger.until(EACH)
            await asyncio.to_thread(processes[0].start)
            await kept_the_law(broker, ledger, database_url, tmp_path)


@pytest.mark.timeout(240)
async def test_rabbitmq_keeps_the_law_when_a_listener_is_killed_and_the_server_restarts(
    redis_url: str, database_url: str, tmp_path: Path, processes: list[ListenerProcess]
) -> None:
    """AMQP cannot say what is acknowledged while listeners run. That is compared at the end."""
    with running(RabbitServer) as server:
        broker = RabbitBroker(server, "orders")
        await broker.make()
        await two_listeners(broker, tmp_path, processes, redis_url=redis_url, database_url=database_url)
        async with ledger_of(broker, database_url, tmp_path) as ledger:
            await publish(broker, ledger)
            await ledger.until_durable(EACH // 4)
            processes[0].child.kill()
            await broker.cut()
            await publish(broker, ledger)
            await ledger.until_durable(2 * EACH)
            await asyncio.to_thread(processes[0].start)
            await until_no_event_has_two_letters(tmp_path)
            for one in processes:
                await asyncio.to_thread(one.child.stop, 30.0)
            await kept_the_law(broker, ledger, database_url, tmp_path)


@pytest.mark.timeout(240)
async def test_a_stream_of_rabbitmq_keeps_the_law_when_a_listener_is_killed_and_the_server_restarts(
    redis_url: str, database_url: str, tmp_path: Path, processes: list[ListenerProcess]
) -> None:
    """Both listeners read all. At no time is the group's cursor beyond what is durable."""
    with running(RabbitServer) as server:
        broker = RabbitStreamBroker(server, "orders")
        await broker.make()
        await two_listeners(broker, tmp_path, processes, redis_url=redis_url, database_url=database_url)
        async with ledger_of(broker, database_url, tmp_path) as ledger:
            await publish(broker, ledger)
            await ledger.until_durable(EACH // 4)
            processes[0].child.kill()
            await broker.cut()
            await publish(broker, ledger)
            await until_the_cursor_is_at(ledger, EACH)
            await asyncio.to_thread(processes[0].start)
            await until_the_cursor_is_at(ledger, 2 * EACH)
            await all_is_once(ledger, database_url, tmp_path)


async def until_the_cursor_is_at(ledger: Ledger, offset: int) -> None:
    async with asyncio.timeout(2 * SECONDS):
        while (cursor := await ledger.cursor()) < offset:
            assert {f"e{number}" for number in range(cursor)} <= await ledger.durable_ids()
            await asyncio.sleep(0.05)
