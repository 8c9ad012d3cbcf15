"""The row is inserted in the handler's transaction. A handler that leaves it has failed, and is not retried."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import asyncpg
import pytest

from unlost.listener.core.errors import Transient
from unlost.listener.core.event import parse
from unlost.listener.ports.rows import Inserted, NewRow
from unlost.listener.store.postgres.connections import ConnectionKind, TransactionLeft
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.migrations import migrate
from unlost.listener.store.postgres.rows import PostgresRows

pytestmark = pytest.mark.database("migrated")


def row(event_id: str) -> NewRow:
    return NewRow(parse(f'{{"event_id": "{event_id}", "payload": 1}}'.encode(), max_bytes=100), 1, 1, 0.0)


def store_of(database: Database) -> PostgresRows:
    return PostgresRows(database, instance_id="a", token="a")


@pytest.fixture
async def database(database_url: str, kind: ConnectionKind) -> AsyncIterator[Database]:
    database = Database(database_url, kind=kind)
    await migrate(database)
    yield database
    await database.close()


async def count(database: Database) -> int:
    async with database.acquire() as connection:
        return int(await connection.fetchval("SELECT count(*) FROM unlost.events"))


async def test_a_transaction_that_failed_under_a_handler_that_went_on_is_no_row(database: Database) -> None:
    async def lose(connection) -> None:
        with contextlib.suppress(asyncpg.PostgresError):
            await connection.execute("SELECT 1 / 0")

    with pytest.raises(Transient, match="went on after an error"):
        await store_of(database).insert_with(row("e"), lose)
    assert await count(database) == 0

    async def careful(connection) -> None:
        with contextlib.suppress(asyncpg.PostgresError):
            async with connection.transaction():
                await connection.execute("SELECT 1 / 0")

    assert await store_of(database).insert_with(row("e"), careful) == Inserted()
    assert await count(database) == 1


LEFT = {
    "ended": "ROLLBACK",
    "begun anew": "ROLLBACK; BEGIN",
    "chained": "ROLLBACK AND CHAIN",
    "committed": "COMMIT",
    "committed, begun anew": "COMMIT; BEGIN",
    "committed, failed": "COMMIT; BEGIN; SELECT 1 / 0",
    "released and begun anew": "SAVEPOINT own; RELEASE SAVEPOINT own; ROLLBACK; BEGIN; SAVEPOINT own",
}


@pytest.mark.parametrize("raises", [False, True])
@pytest.mark.parametrize("statements", LEFT.values(), ids=LEFT)
async def test_a_handler_that_leaves_its_transaction_fails_for_good(
    database: Database, statements: str, *, raises: bool
) -> None:
    """Whatever it did, each further attempt would commit it again. Its own commits are not undone."""
    backends: list[int] = []

    async def leave(connection) -> None:
        backends.append(await connection.fetchval("SELECT pg_backend_pid()"))
        for statement in statements.split("; "):
            with contextlib.suppress(asyncpg.DivisionByZeroError):
                await connection.execute(statement)
        if raises:
            raise ValueError("and then it fails")

    with pytest.raises(TransactionLeft, match="ended the transaction"):
        await store_of(database).insert_with(row("e"), leave)
    async with database.acquire() as other, asyncio.timeout(20):
        # The state of that connection is unknown, so it is closed.
        while await other.fetchval("SELECT count(*) FROM pg_stat_activity WHERE pid = $1", backends[0]):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert await count(database) == statements.startswith("COMMIT")


async def test_a_handler_that_commits_by_itself_is_stored_once(database: Database) -> None:
    async def commit(connection) -> None:
        await connection.execute("COMMIT")

    store = store_of(database)
    with pytest.raises(TransactionLeft):
        await store.insert_with(row("e"), commit)
    assert await store.insert_with(row("e"), commit) == Inserted(), "its own row is recognised"
    assert await count(database) == 1


@pytest.mark.parametrize("swallowed", [False, True])
async def test_a_handler_cannot_reset_its_connection(database: Database, *, swallowed: bool) -> None:
    """Whatever it wrote afterwards would be committed by itself, at every attempt."""

    async def reset(connection) -> None:
        with contextlib.suppress(*([asyncpg.InterfaceError] if swallowed else [])):
            await connection.reset()
        await connection.execute("INSERT INTO effects VALUES ('e')")

    async with database.acquire() as connection:
        await connection.execute("CREATE TABLE effects (event_id text)")
    if swallowed:
        assert await store_of(database).insert_with(row("e"), reset) == Inserted()
    else:
        with pytest.raises(Transient, match=r"reset\(\) cannot be used"):
            await store_of(database).insert_with(row("e"), reset)
    async with database.acquire() as connection:
        assert await connection.fetchval("SELECT count(*) FROM effects") == await count(database) == swallowed


@pytest.mark.parametrize("raises", [False, True])
@pytest.mark.parametrize("end", ["close", "terminate"])
async def test_a_handler_that_closes_its_connection_has_stored_nothing(
    database: Database, end: str, *, raises: bool
) -> None:
    async def close(connection) -> None:
        ended = getattr(connection, end)()
        if ended is not None:
            await ended
        if raises:
            raise ValueError("and then it fails")

    with pytest.raises(ValueError if raises else Transient, match="fails" if raises else "closed or lost"):
        await store_of(database).insert_with(row("e"), close)
    assert await count(database) == 0


async def test_a_handlers_own_savepoints_are_its_own(database: Database) -> None:
    async def nest(connection) -> None:
        async with connection.transaction():
            await connection.execute("SAVEPOINT a; SELECT 1; ROLLBACK TO SAVEPOINT a; RELEASE SAVEPOINT a")
            with contextlib.suppress(asyncpg.DivisionByZeroError):
                async with connection.transaction():
                    await connection.execute("SELECT 1 / 0")
        await connection.execute("SAVEPOINT left_open")

    assert await store_of(database).insert_with(row("e"), nest) == Inserted()
    assert await count(database) == 1
