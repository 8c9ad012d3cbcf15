"""What lending connections promises, asked of a real PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import asyncpg
import pytest

from listener.errors import Transient
from listener.event import parse
from listener.store import lender as lender_module
from listener.store.connection import OwnConnection
from listener.store.database import Database
from listener.store.events import EventStore, NewRow
from listener.store.lender import Lender
from listener.store.migrations import migrate

Lend = Callable[..., Lender]


@pytest.fixture
async def lender(database_url: str) -> AsyncIterator[Lend]:
    made: list[Lender] = []

    def make(most: int = 2, timeout: float = 0.2) -> Lender:
        def connect() -> Awaitable[OwnConnection]:
            return asyncpg.connect(database_url, connection_class=OwnConnection)

        made.append(Lender(connect, most=most, timeout=timeout, reset_timeout=1.0))
        return made[-1]

    yield make
    for one in made:
        one.end_all()


async def test_what_is_given_back_is_lent_again_and_no_more_than_were_allowed(lender: Lend) -> None:
    lending = lender(most=2)
    one, two = await lending.lend(), await lending.lend()
    with pytest.raises(TimeoutError):
        await lending.lend()
    waiting = asyncio.create_task(lending.lend())
    await asyncio.sleep(0)
    await lending.take_back(one)
    assert await waiting is one
    await lending.take_back(two)
    assert await lending.lend() is two


async def test_what_is_not_needed_any_more_is_closed(lender: Lend, monkeypatch: pytest.MonkeyPatch) -> None:
    lending = lender()
    old, used = await lending.lend(), await lending.lend()
    await lending.take_back(old)
    await lending.take_back(used)
    monkeypatch.setattr(lender_module, "FREE_SECONDS", 0.0)
    assert await lending.lend() is used
    await asyncio.sleep(0.002)
    await lending.take_back(used)
    assert old.is_closed()
    assert not used.is_closed()


async def test_after_a_failure_nothing_is_lent_that_was_open_before(lender: Lend) -> None:
    lending = lender()
    free, lent = await lending.lend(), await lending.lend()
    await lending.take_back(free)
    lending.expire()
    assert free.is_closed()
    assert not lent.is_closed(), "whoever works with it may succeed"
    await lending.take_back(lent)
    assert lent.is_closed()
    assert (await lending.lend()).is_clean


async def test_a_transaction_that_was_left_open_is_rolled_back(lender: Lend) -> None:
    lending = lender(most=1)
    connection = await lending.lend()
    await connection.execute("BEGIN; CREATE TEMP TABLE left_behind ()")
    await lending.take_back(connection)
    assert await lending.lend() is connection
    assert not connection.is_in_transaction()
    assert await connection.fetchval("SELECT to_regclass('left_behind')") is None


async def test_who_cannot_be_reset_in_time_is_cut_off_and_its_place_is_free(lender: Lend) -> None:
    lending = lender(most=1)
    connection = await lending.lend()
    await connection.execute("BEGIN")
    taking_back = asyncio.create_task(lending.take_back(connection))
    await asyncio.sleep(0)
    taking_back.cancel()
    with pytest.raises(asyncio.CancelledError):
        await taking_back
    assert connection.is_closed()
    assert await lending.lend() is not connection


async def test_what_a_handler_keeps_of_its_connection_is_good_for_nothing(database_url: str) -> None:
    database = Database(database_url, connections=1)
    await migrate(database)
    kept: list[object] = []

    async def keep(connection: asyncpg.Connection) -> None:
        kept.extend((connection, await connection.prepare("SELECT 1")))

    event = parse(b'{"event_id": "e", "payload": 1}', max_bytes=100)
    store = EventStore(database, instance_id="a", token="a")
    await store.insert_with(NewRow(event, 1, 1, 0.0), keep)
    connection, statement = kept
    with pytest.raises(asyncpg.InterfaceError, match="has ended"):
        await connection.execute("SELECT 1")  # type: ignore[attr-defined]
    with pytest.raises(asyncpg.InterfaceError, match="released"):
        await statement.fetchval()  # type: ignore[attr-defined]
    await database.close()


async def test_a_server_that_gives_no_connection_is_known_in_time(database_url: str) -> None:
    database = Database(database_url, connections=1, timeout=0.2)
    async with database.acquire():
        with pytest.raises(Transient, match="did not answer in time"):
            async with database.acquire("asking for one more"):
                pass
    await database.close()
