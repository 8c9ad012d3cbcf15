"""The promises of a connection pool, asked of a real PostgreSQL."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import asyncpg
import pytest

from unlost.listener.core.errors import Transient, Unavailable
from unlost.listener.core.event import parse
from unlost.listener.fast import pool as lender_module
from unlost.listener.fast.connection import OwnConnection
from unlost.listener.fast.pool import FAST, ConnectionPool
from unlost.listener.ports.rows import NewRow
from unlost.listener.store.postgres.connections import ConnectionKind, PoolLimits
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.migrations import migrate
from unlost.listener.store.postgres.pool import PLAIN
from unlost.listener.store.postgres.rows import PostgresRows
from unlost.ops.system.postgres import PostgresServer

pytestmark = pytest.mark.database("migrated")

MakePool = Callable[..., ConnectionPool]


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[MakePool]:
    made: list[ConnectionPool] = []

    def make(max_size: int = 2, timeout: float = 0.2) -> ConnectionPool:
        def connect() -> Awaitable[OwnConnection]:
            return asyncpg.connect(database_url, connection_class=OwnConnection)

        made.append(ConnectionPool(connect, PoolLimits(max_size, 0, timeout, 1.0)))
        return made[-1]

    yield make
    for one in made:
        await one.close()


async def test_a_pool_reuses_connections_and_opens_at_most_max_size(pool: MakePool) -> None:
    connections = pool(max_size=2)
    one, two = await connections.acquire(), await connections.acquire()
    with pytest.raises(TimeoutError):
        await connections.acquire()
    waiting = asyncio.create_task(connections.acquire())
    await asyncio.sleep(0)
    await connections.release(one)
    assert await waiting is one
    await connections.release(two)
    assert await connections.acquire() is two


class Slow:
    """Opens a connection on request, or fails to."""

    def __init__(self, database_url: str) -> None:
        self._url = database_url
        self.begun = 0
        self.starts = asyncio.Semaphore(0)
        self.go_on = asyncio.Event()
        self.failure: OSError | None = None

    async def connect(self) -> OwnConnection:
        self.begun += 1
        self.starts.release()
        await self.go_on.wait()
        if self.failure:
            raise self.failure
        return await asyncpg.connect(self._url, connection_class=OwnConnection)


async def test_a_waiter_gets_a_released_or_a_new_connection_whichever_is_first(database_url: str) -> None:
    slow = Slow(database_url)
    connections = ConnectionPool(slow.connect, PoolLimits(2, 0, 10.0, 1.0))
    slow.go_on.set()
    one = await connections.acquire()
    slow.go_on.clear()
    await slow.starts.acquire()
    waiting = asyncio.create_task(connections.acquire())
    await slow.starts.acquire()
    await connections.release(one)
    assert await waiting is one, "it was given back before the second was open"
    slow.go_on.set()
    two = await connections.acquire()
    assert two is not one
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await connections.acquire()
    assert slow.begun == 2
    await connections.close()
    assert one.is_closed()
    assert two.is_closed()


async def test_a_few_are_opened_with_the_first_and_kept(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Slow(database_url)
    connections = ConnectionPool(slow.connect, PoolLimits(5, 2, 10.0, 1.0))
    slow.failure = ConnectionRefusedError("nobody there")
    slow.go_on.set()
    with pytest.raises(ConnectionRefusedError):
        await connections.acquire()
    slow.failure = None
    held = [await connections.acquire()]
    assert slow.begun == 4, "the two that failed, and two"
    held += await asyncio.gather(connections.acquire(), connections.acquire())
    assert slow.begun == 5
    monkeypatch.setattr(lender_module, "FREE_SECONDS", -1.0)
    for one in held:
        await connections.release(one)
    assert [one.is_closed() for one in held] == [True, False, False]
    await connections.close()


async def test_one_of_a_few_that_cannot_be_opened_fails_nobody_who_gets_another(database_url: str) -> None:
    begun = 0

    async def connect() -> OwnConnection:
        nonlocal begun
        begun += 1
        if begun == 1:
            raise ConnectionRefusedError("no room for one more")
        return await asyncpg.connect(database_url, connection_class=OwnConnection)

    connections = ConnectionPool(connect, PoolLimits(2, 2, 10.0, 1.0))
    assert not (await connections.acquire()).is_closed()
    assert begun == 2
    await connections.close()


async def test_closing_a_pool_ends_a_connection_that_is_being_opened() -> None:
    ended = asyncio.Event()

    async def connect() -> OwnConnection:
        try:
            return await asyncio.Event().wait()  # type: ignore[return-value]
        finally:
            ended.set()

    connections = ConnectionPool(connect, PoolLimits(2, 0, 10.0, 1.0))
    waiting = asyncio.create_task(connections.acquire())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.sleep(0)
    await connections.close()
    assert ended.is_set()


async def test_every_waiting_caller_gets_the_error_that_none_can_be_opened(database_url: str) -> None:
    slow = Slow(database_url)
    connections = ConnectionPool(slow.connect, PoolLimits(2, 0, 10.0, 1.0))
    waiting = [asyncio.create_task(connections.acquire()) for _ in range(5)]
    await slow.starts.acquire()
    await slow.starts.acquire()
    assert slow.begun == 2
    slow.failure = ConnectionRefusedError("nobody there")
    slow.go_on.set()
    shown = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(one) for one in shown] == [ConnectionRefusedError] * 5
    slow.failure = None
    assert not (await connections.acquire()).is_closed()
    await connections.close()


async def test_a_cancelled_waiter_leaves_its_connection_to_others(database_url: str) -> None:
    slow = Slow(database_url)
    connections = ConnectionPool(slow.connect, PoolLimits(1, 0, 10.0, 1.0))
    impatient = asyncio.create_task(connections.acquire())
    await slow.starts.acquire()
    impatient.cancel()
    patient = asyncio.create_task(connections.acquire())
    slow.go_on.set()
    one = await patient
    waiting = asyncio.create_task(connections.acquire())
    await asyncio.sleep(0)
    await connections.release(one)
    waiting.cancel()  # in the very moment in which it was given one
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await connections.acquire() is one
    assert slow.begun == 1
    await connections.close()


async def test_idle_connections_are_closed(pool: MakePool, monkeypatch: pytest.MonkeyPatch) -> None:
    connections = pool()
    old, used = await connections.acquire(), await connections.acquire()
    await connections.release(old)
    await connections.release(used)
    monkeypatch.setattr(lender_module, "FREE_SECONDS", 0.0)
    assert await connections.acquire() is used
    await asyncio.sleep(0.002)
    await connections.release(used)
    assert old.is_closed()
    assert not used.is_closed()


async def test_after_a_failure_nothing_is_acquired_that_was_open_before(pool: MakePool) -> None:
    connections = pool()
    free, held = await connections.acquire(), await connections.acquire()
    await connections.release(free)
    await connections.expire()
    assert free.is_closed()
    assert not held.is_closed(), "whoever works with it may succeed"
    await connections.release(held)
    assert held.is_closed()
    assert (await connections.acquire()).is_clean


async def test_a_transaction_that_was_left_open_is_rolled_back(pool: MakePool) -> None:
    connections = pool(max_size=1)
    connection = await connections.acquire()
    await connection.execute("BEGIN; CREATE TEMP TABLE left_behind ()")
    await connections.release(connection)
    assert await connections.acquire() is connection
    assert not connection.is_in_transaction()
    assert await connection.fetchval("SELECT to_regclass('left_behind')") is None


async def test_a_connection_that_cannot_be_reset_is_closed_and_replaced(pool: MakePool) -> None:
    connections = pool(max_size=1)
    connection = await connections.acquire()
    await connection.execute("BEGIN")
    taking_back = asyncio.create_task(connections.release(connection))
    await asyncio.sleep(0)
    taking_back.cancel()
    with pytest.raises(asyncio.CancelledError):
        await taking_back
    assert connection.is_closed()
    assert await connections.acquire() is not connection


async def test_a_kept_connection_or_statement_refuses_every_use(database_url: str, kind: ConnectionKind) -> None:
    database = Database(database_url, connections=1, kind=kind)
    await migrate(database)
    kept: list[object] = []

    async def keep(connection: asyncpg.Connection) -> None:
        kept.extend((connection, await connection.prepare("SELECT 1")))

    event = parse(b'{"event_id": "e", "payload": 1}', max_bytes=100)
    store = PostgresRows(database, instance_id="a", token="a")
    await store.insert_with(NewRow(event, 1, 1, 0.0), keep)
    connection, statement = kept
    with pytest.raises(asyncpg.InterfaceError, match="has ended"):
        await connection.execute("SELECT 1")  # type: ignore[attr-defined]
    with pytest.raises(asyncpg.InterfaceError, match="released"):
        await statement.fetchval()  # type: ignore[attr-defined]
    await database.close()


async def test_a_server_that_gives_no_connection_is_known_in_time(database_url: str, kind: ConnectionKind) -> None:
    database = Database(database_url, connections=1, timeout=1.0, kind=kind)
    async with database.acquire():
        with pytest.raises(Unavailable, match="all connections were in use"):
            async with database.acquire("asking for one more"):
                pass
    await database.close()


@pytest.mark.parametrize("kind", [PLAIN, FAST], ids=["plain", "fast"])
async def test_a_cancelled_task_ends_although_its_rollback_fails(
    own_postgres: PostgresServer, kind: ConnectionKind
) -> None:
    database = Database(own_postgres.create_database("cancelled"), timeout=0.5, kind=kind)
    begun, ended = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        while not ended.is_set():  # as every task does that outlasts an outage
            with contextlib.suppress(Transient):
                async with database.acquire() as connection, connection.transaction():
                    await connection.execute("select 1")
                    own_postgres.freeze()
                    begun.set()
                    await connection.execute("select 2")

    task = asyncio.create_task(work())
    await begun.wait()
    task.cancel()
    try:
        done, _ = await asyncio.wait({task}, timeout=20)
        assert done, "the failed rollback swallowed the cancellation"
        assert task.cancelled()
    finally:
        own_postgres.thaw()
        ended.set()
        await asyncio.wait({task})
        await database.close()
