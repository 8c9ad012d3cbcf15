"""Consecutive transactions on one connection: each is complete, and nothing of it reaches the next one."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import asyncpg
import pytest

from unlost.listener.core.errors import Reject, Transient
from unlost.listener.core.event import parse
from unlost.listener.fast.pool import FAST
from unlost.listener.ports.rows import Inserted, NewRow, TransactionPipeline
from unlost.listener.store.postgres.connections import Connection, ConnectionKind
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.migrations import migrate
from unlost.listener.store.postgres.rows import PostgresRows

pytestmark = pytest.mark.database("migrated")

begun_with_the_commit = pytest.mark.parametrize("kind", [FAST], ids=["fast"])
"""The other kind keeps no connection between two transactions."""
LEFT = """select current_setting('work_mem') as work_mem, current_setting('transaction_read_only') as read_only,
    current_setting('default_transaction_read_only') as all_read_only,
    (select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()) as locks,
    (select count(*) from pg_listening_channels()) as channels"""
NOTHING_LEFT = {"work_mem": "4MB", "read_only": "off", "all_read_only": "off", "locks": 0, "channels": 0}
LEAVE = """SET work_mem = '123MB'; SELECT pg_advisory_lock(7); LISTEN news;
    SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY"""


def row(event_id: str) -> NewRow:
    return NewRow(parse(f'{{"event_id": "{event_id}", "payload": 1}}'.encode(), max_bytes=100), 1, 1, 0.0)


async def nothing(_: Connection) -> None:
    pass


async def leave(connection: Connection) -> None:
    await connection.execute(LEAVE)


async def look(connection: Connection) -> None:
    left = await connection.fetchrow(LEFT)
    assert left is not None
    assert dict(left) == NOTHING_LEFT


async def reject(_: Connection) -> None:
    raise Reject("no")


@pytest.fixture
async def database(database_url: str, kind: ConnectionKind) -> AsyncIterator[Database]:
    """With one connection, so that the next caller gets the same one."""
    database = Database(database_url, connections=1, timeout=2.0, kind=kind)
    await migrate(database)
    yield database
    await database.close()


@pytest.fixture
def store(database: Database) -> PostgresRows:
    return PostgresRows(database, instance_id="a", token="a", longest_idle=0.3)


@pytest.fixture
async def transactions() -> AsyncIterator[TransactionPipeline]:
    """Another event always follows, until the test ends."""
    transactions = TransactionPipeline(lambda: True)
    yield transactions
    await transactions.rest()


async def stored(database: Database) -> set[str]:
    async with database.acquire() as connection:
        return {row["event_id"] for row in await connection.fetch("SELECT event_id FROM unlost.events")}


@begun_with_the_commit
async def test_the_message_that_commits_one_begins_the_next(
    database: Database, store: PostgresRows, transactions: TransactionPipeline
) -> None:
    sent: list[str] = []
    async with database.acquire() as connection:
        connection.add_query_logger(lambda query: sent.append(query.query))
    for event_id in "abc":
        assert await store.insert_with(row(event_id), nothing, transactions) == Inserted()
    await transactions.rest()
    await asyncio.sleep(0)  # the library reports a query one step later
    begins = [query for query in sent if query.startswith("BEGIN")]
    commits = [query for query in sent if "COMMIT" in query]
    assert (len(begins), len(commits), len(sent)) == (1, 3, 8), "one begin, three inserts, three commits, one end"
    assert await stored(database) == {"a", "b", "c"}


@pytest.mark.parametrize("second", [nothing, reject])
async def test_session_state_of_a_handler_reaches_no_later_transaction(
    database: Database, store: PostgresRows, transactions: TransactionPipeline, second: object
) -> None:
    """Neither the next one nor, if that one is returned unused, the one after it."""
    await store.insert_with(row("a"), leave, transactions)
    await store.insert_with(row("b"), look, transactions)
    await store.insert_with(row("c"), leave, transactions)
    if second is reject:
        with pytest.raises(Reject):
            await store.insert_with(row("d"), reject, transactions)
    await store.insert_with(row("e"), look, transactions)
    await transactions.rest()
    assert await stored(database) == {"a", "b", "c", "e"}


async def test_a_failed_transaction_takes_no_other_with_it(
    database: Database, store: PostgresRows, transactions: TransactionPipeline
) -> None:
    async def divide(connection: Connection) -> None:
        await connection.execute("SELECT 1 / 0")

    async def go_on(connection: Connection) -> None:
        with contextlib.suppress(asyncpg.DivisionByZeroError):
            await divide(connection)

    for event_id, work in (("a", nothing), ("b", reject), ("c", nothing), ("d", divide), ("e", nothing), ("f", go_on)):
        try:
            await store.insert_with(row(event_id), work, transactions)
        except Exception:  # noqa: BLE001  whatever it is, it does not concern the others
            assert work is not nothing
        else:
            assert work is nothing
    await transactions.rest()
    assert await stored(database) == {"a", "c", "e"}


@pytest.mark.parametrize("statement", ["", "SELECT pg_terminate_backend(pg_backend_pid())"])
async def test_a_handler_that_goes_on_without_its_connection_has_failed(
    database: Database, store: PostgresRows, transactions: TransactionPipeline, statement: str
) -> None:
    """The handler closed the connection itself or lost it, and swallowed the error."""

    async def go_on(connection: Connection) -> None:
        with contextlib.suppress(asyncpg.PostgresError, asyncpg.InterfaceError):
            await (connection.execute(statement) if statement else connection.close())
        while not connection.is_closed():  # noqa: ASYNC110  the connection notices, but announces nothing
            await asyncio.sleep(0.01)

    await store.insert_with(row("a"), nothing, transactions)
    with pytest.raises(Transient, match="closed or lost"):
        await store.insert_with(row("b"), go_on, transactions)
    await store.insert_with(row("c"), nothing, transactions)
    await transactions.rest()
    assert await stored(database) == {"a", "c"}


async def test_a_handlers_own_transactions_are_parts_of_one_that_has_begun(
    database: Database, store: PostgresRows, transactions: TransactionPipeline
) -> None:
    async def partly(connection: Connection) -> None:
        assert connection.is_in_transaction()
        with pytest.raises(asyncpg.DivisionByZeroError):
            async with connection.transaction():
                await connection.execute("SELECT 1 / 0")

    for event_id in "ab":
        await store.insert_with(row(event_id), partly, transactions)
    await transactions.rest()
    assert await stored(database) == {"a", "b"}


@begun_with_the_commit
async def test_a_pipeline_at_rest_holds_no_transaction(
    database: Database, store: PostgresRows, transactions: TransactionPipeline
) -> None:
    await store.insert_with(row("a"), nothing, transactions)
    with pytest.raises(Transient, match="did not answer in time"):
        await stored(database)
    await transactions.rest()
    async with database.acquire() as connection:
        assert not connection.is_in_transaction()
    await store.insert_with(row("b"), nothing, transactions)


async def test_one_frozen_before_its_next_event_or_in_it_keeps_nobody_waiting(
    database_url: str, store: PostgresRows, transactions: TransactionPipeline, kind: ConnectionKind
) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def freeze(_: Connection) -> None:
        begun.set()
        await go_on.wait()

    await store.insert_with(row("a"), nothing, transactions)
    frozen = asyncio.create_task(store.insert_with(row("b"), freeze, transactions))
    await begun.wait()
    heirs = Database(database_url, kind=kind)
    heir = PostgresRows(heirs, instance_id="b", token="b")
    assert await heir.insert_with(row("b"), nothing) == Inserted()
    go_on.set()
    with pytest.raises(Transient):
        await frozen
    await heirs.close()


@begun_with_the_commit
async def test_a_server_that_ends_what_has_begun_costs_no_attempt(
    database_url: str, store: PostgresRows, transactions: TransactionPipeline
) -> None:
    pids: list[int] = []

    async def note(connection: Connection) -> None:
        pids.append(connection.get_server_pid())

    await store.insert_with(row("a"), note, transactions)
    other = await asyncpg.connect(database_url)
    kept = transactions.kept
    assert kept is not None
    await other.execute("SELECT pg_terminate_backend($1)", pids[0])
    while kept.is_usable:  # type: ignore[attr-defined]  # noqa: ASYNC110  it notices, but announces nothing
        await asyncio.sleep(0.01)
    assert await store.insert_with(row("b"), note, transactions) == Inserted()
    assert pids[0] != pids[1]
    await other.close()


async def test_a_cancelled_transaction_leaves_nothing_behind(
    database: Database, store: PostgresRows, transactions: TransactionPipeline
) -> None:
    begun = asyncio.Event()

    async def hang(connection: Connection) -> None:
        begun.set()
        await connection.execute("SELECT pg_sleep(30)")

    await store.insert_with(row("a"), nothing, transactions)
    task = asyncio.create_task(store.insert_with(row("b"), hang, transactions))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert transactions.kept is None
    assert await stored(database) == {"a"}
