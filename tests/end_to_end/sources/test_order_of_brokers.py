"""Order per key with brokers: a listener is killed, events fail, letters are replayed. Nothing overtakes.

The handler of all listeners and replays notes its runs in one file; the rows have the order in which they were written.
``tests/support/turns.py`` compares both with what was published.
"""

import asyncio
import os
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.end_to_end.faults.conftest import ListenerProcess, letters
from tests.end_to_end.sources.handlers import in_turn
from tests.support.brokers import KafkaBroker, OrderedJetStreamBroker, TansuServer, running
from tests.support.turns import out_of_turn
from unlost.ops.system.nats import NatsServer

KEYS = 7
EACH = 160
SECONDS = 60
HANDLER = f"{in_turn.__module__}:{in_turn.__name__}"


class Shop:
    """What is published to a broker, and what the listeners made of it."""

    def __init__(self, broker: Any, database: asyncpg.Connection, directory: Path) -> None:
        self._broker = broker
        self._database = database
        self.directory = directory
        self.published: defaultdict[str, list[str]] = defaultdict(list)
        self.count = 0

    async def publish(self, count: int) -> None:
        numbers = range(self.count, self.count + count)
        events = [(f"k{n % KEYS}", f"e{n}", n) for n in numbers]
        for key, event_id, _ in events:
            self.published[key].append(event_id)
        self.count += count
        await self._broker.publish_with_keys([
            (key, b'{"event_id":"%b","payload":{"key":"%b","number":%d}}' % (event_id.encode(), key.encode(), n))
            for key, event_id, n in events
        ])  # fmt: skip

    async def rows(self) -> list[str]:
        """The events that are stored, in the order of their rows."""
        return [row[0] for row in await self._database.fetch("select event_id from unlost.events order by seq")]

    async def waiting(self) -> int:
        """How many events PostgreSQL has as letters, without a row."""
        return int(await self._database.fetchval(
            "select count(*) from unlost.buried b"
            " where not exists (select from unlost.events where event_id = b.event_id)"
        ))  # fmt: skip

    @property
    def reasons(self) -> set[str]:
        return {one.reason for name in "ab" for one in letters(self.directory, name)}

    @property
    def runs(self) -> list[str]:
        return (self.directory / "runs").read_text().split()

    async def until_settled(self, rows: int = 0) -> None:
        """Wait until each event is a row or a letter, and so many are rows."""
        async with asyncio.timeout(SECONDS):
            while (stored := len(await self.rows())) < rows or stored + await self.waiting() < self.count:  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    async def until_stored(self, count: int) -> None:
        async with asyncio.timeout(SECONDS):
            while len(await self.rows()) < count:  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    async def check(self) -> None:
        assert out_of_turn(self.runs, await self.rows(), self.published) == []


async def replay(redis_url: str, database_url: str, directory: Path) -> None:
    """Replay the letters of the whole fleet by the command, once."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "unlost", "dlq", "replay", "--all", "--json", "--handler", HANDLER,
        "--redis-url", redis_url, "--database-url", database_url, "--lease", "3",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "RUNS_FILE": str(directory / "runs"), "GATE_FILE": str(directory / "gate")},
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), SECONDS)
    assert out, err.decode()


async def keeps_the_order(
    broker: Any, redis_url: str, database_url: str, directory: Path, processes: list[ListenerProcess]
) -> None:
    settings = {
        "source": broker.address, "handler": HANDLER, "order_by": "payload.key", "heal": "off", "handle_attempts": "1",
        "redis_url": redis_url, "database_url": database_url,
    }  # fmt: skip
    processes += [ListenerProcess(directory, name, **settings) for name in "ab"]
    await asyncio.gather(*(asyncio.to_thread(one.start) for one in processes))
    database = await asyncpg.connect(database_url)
    try:
        shop = Shop(broker, database, directory)
        await shop.publish(EACH)
        await shop.until_stored(20)
        processes[0].child.kill()
        await shop.publish(EACH)
        await shop.until_settled()
        await asyncio.to_thread(processes[0].start)
        assert shop.reasons == {"rejected", "exhausted", "blocked"}
        await shop.check()
        (directory / "gate").touch()
        publishing = asyncio.create_task(shop.publish(EACH))
        async with asyncio.timeout(2 * SECONDS):
            while not publishing.done() or await shop.waiting() or len(await shop.rows()) < shop.count:
                await replay(redis_url, database_url, directory)
        await publishing
        await shop.check()
        assert len(await shop.rows()) == shop.count == 3 * EACH
    finally:
        await database.close()


@pytest.mark.timeout(240)
async def test_kafka_keeps_the_order_of_each_key_when_a_listener_is_killed_and_letters_are_replayed(
    redis_url: str, database_url: str, tmp_path: Path, processes: list[ListenerProcess]
) -> None:
    with running(TansuServer) as server:
        broker = KafkaBroker(server, "orders")
        await broker.make()
        await keeps_the_order(broker, redis_url, database_url, tmp_path, processes)


@pytest.mark.timeout(240)
async def test_jetstream_keeps_the_order_of_each_key_when_a_listener_is_killed_and_letters_are_replayed(
    redis_url: str, database_url: str, tmp_path: Path, processes: list[ListenerProcess]
) -> None:
    with running(NatsServer) as server:
        broker = OrderedJetStreamBroker(server, "orders")
        await broker.make()
        await keeps_the_order(broker, redis_url, database_url, tmp_path, processes)
