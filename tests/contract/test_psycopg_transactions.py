"""psycopg's connections on the server session of the row: what a route writes is committed with the row, or not at all.

Each test runs with the asynchronous connection, and with the synchronous one in a thread.
"""

import asyncio
import contextlib
import struct
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Self
from urllib.parse import urlsplit

import psycopg
import pytest

from tests.contract.test_route_transactions import kept
from tests.contract.test_sync_transactions import stored
from unlost import App
from unlost.listener.core.errors import Transient
from unlost.listener.fast import transport
from unlost.listener.fast.pool import FAST
from unlost.listener.pipeline.handlers import HandlerFailed, HandlerTimeout
from unlost.listener.ports.rows import Inserted
from unlost.listener.routing.relay import RelayFailed, offered
from unlost.listener.store.postgres.connections import TransactionLeft
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.migrations import migrate
from unlost.listener.store.postgres.pool import PLAIN
from unlost.ops.system.ports import free_port

pytestmark = pytest.mark.database("migrated")

INSERT = "insert into effects (name) values (%s)"
Work = Callable[[Any], Any]


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """asyncpg's own connections share no transport."""
    database = Database(database_url, kind=FAST, connections=4)
    await migrate(database)
    async with database.acquire() as connection:
        await connection.execute("create table effects (name text unique deferrable initially deferred)")
    yield database
    await database.close()


@pytest.fixture(params=["asynchronous", "in a thread"])
def app(request: pytest.FixtureRequest) -> Callable[[Work], App]:
    """Makes an application of steps: each yields what psycopg returns, which is awaited or not."""

    def by_steps(work: Work) -> App:
        app = App()
        if request.param == "asynchronous":

            @app.on("t")
            async def route(payload: Any, connection: psycopg.AsyncConnection[Any]) -> None:
                await _walk(work(connection))
        else:

            @app.on("t")
            def route_in_thread(payload: Any, connection: psycopg.Connection[Any]) -> None:
                assert threading.current_thread() is not threading.main_thread()
                steps, result = work(connection), None
                with contextlib.suppress(StopIteration):
                    while True:
                        result = steps.send(result)

        return app

    return by_steps


async def _walk(steps: Any) -> None:
    result: Any = None
    error: Exception | None = None
    with contextlib.closing(steps), contextlib.suppress(StopIteration):
        while True:
            step = steps.throw(error) if error else steps.send(result)
            error = None
            try:
                result = await step if isinstance(step, Awaitable) else step
            except Exception as raised:  # noqa: BLE001  the steps may catch it
                error = raised


async def test_without_fast_connections_the_attempt_says_so(database_url: str) -> None:
    app = App()

    @app.on("t")
    async def route(connection: psycopg.AsyncConnection[Any]) -> None:
        """It never runs."""

    database = Database(database_url, kind=PLAIN)
    await migrate(database)
    with pytest.raises(RelayFailed, match="FAST=on"):
        await stored(database, app)
    await database.close()


async def test_writes_of_a_route_are_committed_with_the_row(database: Database, app: Callable[[Work], App]) -> None:
    def work(connection: Any) -> Any:
        yield connection.execute(INSERT, ["a"])
        cursor = yield connection.execute("select count(*) from unlost.events where event_id = 'e'")
        row = yield cursor.fetchone()
        assert row == (1,), "the row is there"
        cursor = yield connection.execute("select g, repeat('x', 10000) from generate_series(1, 2000) g")
        rows = yield cursor.fetchall()
        assert [one[0] for one in rows] == list(range(1, 2001))
        for name in "bcdefgh":  # more often than the times after which psycopg would prepare it
            yield connection.execute(INSERT, [name])

    for _ in range(3):
        assert await stored(database, app(work)) == Inserted()
        async with database.acquire() as connection:
            assert await connection.fetchval("select count(*) from effects") == 8
            await connection.execute("delete from effects; delete from unlost.events")


def fail(connection: Any) -> Any:
    yield connection.execute(INSERT, ["a"])
    raise ValueError("no")


def commit(connection: Any) -> Any:
    yield connection.execute(INSERT, ["a"])
    yield connection.commit()


def roll_back(connection: Any) -> Any:
    yield connection.execute(INSERT, ["a"])
    yield connection.rollback()


def close(connection: Any) -> Any:
    yield connection.execute(INSERT, ["a"])
    yield connection.close()


def swallow(connection: Any) -> Any:
    yield connection.execute(INSERT, ["a"])
    with contextlib.suppress(psycopg.errors.DivisionByZero):
        yield connection.execute("select 1 / 0")


def swallow_in_a_string(connection: Any) -> Any:
    yield connection.execute("do $$ begin perform 1 / 0; exception when others then null; end $$")
    raise ValueError("no")


def break_a_constraint_at_commit(connection: Any) -> Any:
    yield connection.execute(INSERT, ["a"])
    yield connection.execute(INSERT, ["a"])


@pytest.mark.parametrize("work", [fail, commit, roll_back, swallow_in_a_string, break_a_constraint_at_commit])
async def test_a_route_that_misbehaves_stores_nothing(
    database: Database, app: Callable[[Work], App], work: Work
) -> None:
    with pytest.raises(Exception) as failed:  # noqa: PT011  which one depends on the mistake
        await stored(database, app(work))
    assert isinstance(failed.value, HandlerFailed | Transient) or work is break_a_constraint_at_commit
    if work in (commit, roll_back):
        assert "forbidden within a Transaction context" in str(failed.value)
    assert await kept(database) == (0, [])


async def test_a_connection_that_the_route_closes_is_closed_to_it_alone(
    database: Database, app: Callable[[Work], App]
) -> None:
    assert await stored(database, app(close)) == Inserted()
    assert await kept(database) == (1, ["a"])


@pytest.mark.parametrize("statement", ["rollback", "commit"])
async def test_a_route_that_ends_the_transaction_by_a_statement_has_failed_for_good(
    database: Database, app: Callable[[Work], App], statement: str
) -> None:
    def work(connection: Any) -> Any:
        yield connection.execute(statement)

    with pytest.raises(TransactionLeft):
        await stored(database, app(work))
    assert await kept(database) == (int(statement == "commit"), [])


async def test_an_error_swallowed_by_an_asynchronous_route_is_no_row(database: Database) -> None:
    app = App()

    @app.on("t")
    async def route(connection: psycopg.AsyncConnection[Any]) -> None:
        await _walk(swallow(connection))

    with pytest.raises(HandlerFailed, match="aborted"):
        await stored(database, app)
    assert await kept(database) == (0, [])


async def test_a_transaction_of_its_own_is_a_savepoint(database: Database) -> None:
    app = App()

    @app.on("t")
    async def route(connection: psycopg.AsyncConnection[Any]) -> None:
        with contextlib.suppress(ValueError):
            async with connection.transaction():
                await connection.execute(INSERT, ["undone"])
                raise ValueError
        async with connection.transaction():
            await connection.execute(INSERT, ["a"])
        async with connection.cursor() as cursor, cursor.copy("copy effects from stdin") as copy:
            await copy.write_row(["b"])

    assert await stored(database, app) == Inserted()
    assert await kept(database) == (1, ["a", "b"])


async def test_an_attempt_that_takes_too_long_is_cancelled_and_its_connection_is_not_mixed_up(
    database: Database, app: Callable[[Work], App]
) -> None:
    ended = threading.Event()

    def work(connection: Any) -> Any:
        try:
            yield connection.execute(INSERT, ["a"])
            yield connection.execute("select pg_sleep(30)")
        finally:
            ended.set()

    with pytest.raises((HandlerTimeout, RelayFailed)):
        await stored(database, app(work), timeout=0.5)
    assert await asyncio.to_thread(ended.wait, 20)
    assert await kept(database) == (0, [])

    def quick(connection: Any) -> Any:
        yield connection.execute(INSERT, ["b"])

    assert await stored(database, app(quick)) == Inserted()
    assert await kept(database) == (1, ["b"])


async def test_a_connection_whose_statement_cannot_be_cancelled_is_closed(
    database: Database, database_url: str
) -> None:
    del database  # it has skipped the other kind of connection
    async with Gateway(database_url) as gateway:
        behind = Database(gateway.url, kind=FAST, connections=1)
        used: list[Any] = []
        with pytest.raises(RelayFailed, match="in the middle of a statement"):
            await _begin_a_statement(behind, gateway.close_to_others, used)
        assert used[0].is_closed()
        await behind.close()


async def test_a_server_that_does_not_take_a_request_to_cancel_is_not_waited_for(
    database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    del database
    monkeypatch.setattr(transport, "CANCEL_SECONDS", 0.3)
    async with Gateway(database_url) as gateway:
        behind = Database(gateway.url, kind=FAST, connections=1)
        used: list[Any] = []
        async with asyncio.timeout(4):
            with pytest.raises(RelayFailed, match="in the middle of a statement"):
                await _begin_a_statement(behind, gateway.ignore_others, used)
            assert used[0].is_closed()
        await behind.close()


async def test_a_stop_does_not_wait_for_a_request_to_cancel(database: Database, database_url: str) -> None:
    del database
    async with Gateway(database_url) as gateway:
        behind = Database(gateway.url, kind=FAST, connections=1)
        async with behind.acquire() as connection:
            real: Any = connection
            gateway.ignore_others()
            asking = asyncio.create_task(real.cancel_statement())
            await asyncio.wait_for(gateway.kept_waiting.wait(), 10)
            asking.cancel()
            await asyncio.wait({asking}, timeout=1)
            assert asking.cancelled(), "asyncpg swallows it"
        await behind.close()


async def _begin_a_statement(database: Database, shut: Callable[[], None], used: list[Any]) -> None:
    """Send a statement, and leave without its answer."""
    async with database.acquire() as connection:
        used.append(connection)
        shut()
        async with offered(connection) as address:
            await _send_a_statement(address["host"])


async def _send_a_statement(directory: str) -> None:
    reader, writer = await asyncio.open_unix_connection(f"{directory}/.s.PGSQL.5432")
    writer.write(struct.pack("!II", 8, 3 << 16))
    await reader.readexactly(9)
    query = b"select pg_sleep(5)\0"
    writer.write(b"Q" + struct.pack("!I", 4 + len(query)) + query)
    await writer.drain()
    writer.close()


class Gateway:
    """A way to PostgreSQL that can be closed to new connections, or take them and answer nothing."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._target = parts.hostname or "", parts.port or 5432
        self.port = free_port()
        self.url = parts._replace(netloc=f"{parts.netloc.rpartition('@')[0]}@127.0.0.1:{self.port}").geturl()
        self._copying: set[asyncio.Task[None]] = set()
        self._ignores = False
        self.kept_waiting = asyncio.Event()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for one in self._copying:
            one.cancel()
        await asyncio.gather(*self._copying, return_exceptions=True)

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._forward, "127.0.0.1", self.port)

    def close_to_others(self) -> None:
        self._server.close()

    def ignore_others(self) -> None:
        self._ignores = True

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._ignores:
            self.kept_waiting.set()
            with contextlib.closing(writer):
                await reader.read()
            return
        other_reader, other_writer = await asyncio.open_connection(*self._target)
        self._copying |= {
            asyncio.create_task(_copy(reader, other_writer)), asyncio.create_task(_copy(other_reader, writer)),
        }  # fmt: skip


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.closing(writer), contextlib.suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)


async def test_many_at_once_have_a_connection_each(database: Database, app: Callable[[Work], App]) -> None:
    def work(connection: Any) -> Any:
        yield connection.execute("insert into effects select 'e' || pg_backend_pid()")
        yield connection.execute("select pg_sleep(0.05)")

    made = app(work)
    frames = [b'{"event_id": "%d", "type": "t", "payload": 1}' % number for number in range(4)]
    ended = await asyncio.gather(*(stored(database, made, frame=frame) for frame in frames))
    assert ended == [Inserted()] * 4
    rows, effects = await kept(database)
    assert rows == 4
    assert len(set(effects)) == 4
