"""``Transaction`` on a real PostgreSQL: what a route writes is committed with the row, or not at all."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import asyncpg
import pytest

from unlost import Transaction
from unlost.listener.core.errors import Permanent, Transient
from unlost.listener.core.event import parse
from unlost.listener.ports.rows import HandlerConnection, Inserted, NewRow
from unlost.listener.store.postgres.connections import ConnectionKind, TransactionLeft
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.migrations import migrate
from unlost.listener.store.postgres.rows import PostgresRows

pytestmark = pytest.mark.database("migrated")

Work = Callable[[Transaction], Awaitable[object]]
INSERT = "insert into effects values ($1)"


@pytest.fixture
async def database(database_url: str, kind: ConnectionKind) -> AsyncIterator[Database]:
    database = Database(database_url, kind=kind)
    await migrate(database)
    async with database.acquire() as connection:
        await connection.execute("create table effects (name text unique deferrable initially deferred)")
    yield database
    await database.close()


async def stored(database: Database, work: Work) -> object:
    async def call(connection: HandlerConnection) -> None:
        await work(Transaction(connection))

    row = NewRow(parse(b'{"event_id": "e", "payload": 1}', max_bytes=100), 1, 1, 0.0)
    return await PostgresRows(database, instance_id="a", token="a").insert_with(row, call)


async def kept(database: Database) -> tuple[int, list[str]]:
    """How many rows there are, and which effects."""
    async with database.acquire() as connection:
        rows = await connection.fetchval("select count(*) from unlost.events")
        return rows, [one["name"] for one in await connection.fetch("select name from effects order by name")]


async def test_every_method_works_in_the_transaction_of_the_row(database: Database) -> None:
    async def work(tx: Transaction) -> None:
        assert await tx.execute(INSERT, "a") == "INSERT 0 1"
        await tx.executemany(INSERT, [("b",), ("c",)])
        assert [row["name"] for row in await tx.fetch("select name from effects order by name")] == ["a", "b", "c"]
        first = await tx.fetchrow("select name from effects order by name")
        assert first is not None
        assert first["name"] == "a"
        assert await tx.fetchval("select count(*) from effects") == 3
        assert [row["name"] async for row in tx.cursor("select name from effects order by name")] == ["a", "b", "c"]
        assert await tx.fetchval("select count(*) from unlost.events where event_id = 'e'") == 1, "the row is there"
        with contextlib.suppress(ValueError):
            async with tx.savepoint():
                await tx.execute(INSERT, "undone")
                raise ValueError

    assert await stored(database, work) == Inserted()
    assert await kept(database) == (1, ["a", "b", "c"])


async def fail(tx: Transaction) -> None:
    await tx.execute(INSERT, "a")
    raise ValueError("no")


async def break_a_constraint_at_commit(tx: Transaction) -> None:
    await tx.executemany(INSERT, [("a",), ("a",)])


async def swallow(tx: Transaction) -> None:
    await tx.execute(INSERT, "a")
    with contextlib.suppress(asyncpg.PostgresError):
        await tx.execute("select 1 / 0")


async def roll_back(tx: Transaction) -> None:
    await tx.execute(INSERT, "a")
    await tx.execute("rollback")


async def roll_back_and_begin(tx: Transaction) -> None:
    await tx.execute("rollback; begin")
    await tx.execute(INSERT, "a")


async def take_too_long(tx: Transaction) -> None:
    await tx.execute(INSERT, "a")
    await tx.execute("select pg_sleep(10)", timeout=0.05)


@pytest.mark.parametrize(
    ("work", "error"),
    [
        (fail, ValueError),
        (break_a_constraint_at_commit, Permanent),
        (swallow, Transient),
        (roll_back, TransactionLeft),
        (roll_back_and_begin, TransactionLeft),
        (take_too_long, TimeoutError),
    ],
)
async def test_a_route_that_misbehaves_stores_nothing(database: Database, work: Work, error: type[Exception]) -> None:
    with pytest.raises(error):
        await stored(database, work)
    assert await kept(database) == (0, [])


async def test_a_route_that_commits_by_hand_is_stored_once_and_fails(database: Database) -> None:
    async def work(tx: Transaction) -> None:
        await tx.execute(INSERT, "a")
        await tx.execute("commit")

    with pytest.raises(TransactionLeft):
        await stored(database, work)
    assert await kept(database) == (1, ["a"])
    assert await stored(database, work) == Inserted(), "its own row is recognised, and nothing runs again"
    assert await kept(database) == (1, ["a"])


async def test_nothing_works_once_the_route_has_ended(database: Database) -> None:
    held: list[Transaction] = []

    async def work(tx: Transaction) -> None:
        held.append(tx)

    await stored(database, work)
    for act in (held[0].execute("select 1"), held[0].fetch("select 1"), held[0].fetchval("select 1")):
        with pytest.raises(asyncpg.InterfaceError, match="has ended"):
            await act
    with pytest.raises(asyncpg.InterfaceError, match="has ended"):
        held[0].savepoint()


def test_there_is_no_way_to_end_it() -> None:
    offered = {name for name in dir(Transaction) if not name.startswith("_")}
    assert offered == {"execute", "executemany", "fetch", "fetchrow", "fetchval", "cursor", "savepoint"}
