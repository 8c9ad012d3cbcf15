"""pgbouncer in transaction mode: nothing that we use needs a session of its own, and no prepared statement is kept."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest

from tests.support.needed import needed
from tests.support.servers import running_pooler
from unlost.listener.claims.postgres.adapter import PostgresClaims
from unlost.listener.core.claim import ClaimRequest, Won
from unlost.listener.core.errors import Unavailable
from unlost.listener.core.event import parse
from unlost.listener.ports.rows import INSERTED, NewRow
from unlost.listener.store.postgres.connections import Connection, ConnectionKind
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.errors import lost_connection, translated
from unlost.listener.store.postgres.membership import PostgresMembership
from unlost.listener.store.postgres.migrations import migrate
from unlost.listener.store.postgres.pooler import keeps_statements
from unlost.listener.store.postgres.row_columns import make_ready
from unlost.listener.store.postgres.rows import PostgresRows
from unlost.ops.system.pooler import Pooler
from unlost.ops.system.postgres import PostgresServer

pytestmark = pytest.mark.database("migrated")

SESSIONS = 4


@pytest.fixture(scope="module", params=["transaction", "session"])
def mode(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def pooler(postgres_server: PostgresServer, mode: str) -> Iterator[Pooler]:
    needed("pgbouncer", package="pgbouncer")
    size = SESSIONS if mode == "transaction" else 40
    with running_pooler(postgres_server, mode=mode, size=size) as pooler:
        yield pooler


@pytest.fixture
async def database(pooler: Pooler, database_url: str, kind: ConnectionKind) -> AsyncIterator[Database]:
    database = Database(
        pooler.by_way(database_url), kind=kind, connections=8, kept_open=4, make_ready=make_ready, timeout=20
    )
    yield database
    await database.close()


def row(event_id: str) -> NewRow:
    return NewRow(parse(b'{"event_id":"%s","payload":{}}' % event_id.encode(), max_bytes=1000), 1, 1, 0.0)


async def test_all_that_a_listener_does_works(database: Database) -> None:
    await migrate(database)
    membership = PostgresMembership(database, token="a", instance_id="i")
    claims = PostgresClaims(database, token="a", lease_seconds=30, window_seconds=600)
    rows = PostgresRows(database, instance_id="i", token="a")
    await membership.declare(frozenset({"redis:1"}))

    async def work(worker: int) -> None:
        for number in range(10):
            ids = [f"{worker}.{number}.{i}" for i in range(1 + number % 3)]
            await membership.refresh()
            await claims.place()
            assert await claims.claim([ClaimRequest(one, bytes(32)) for one in ids], take_over=0) == [Won(1, 0)] * len(
                ids
            )
            assert await rows.insert([row(one) for one in ids]) == [INSERTED] * len(ids)

            async def handler(connection: Connection) -> None:
                await connection.fetchval("SELECT $1::int + 1", 1)

            assert await rows.insert_with(row(f"{worker}.{number}.handled"), handler) == INSERTED
            await claims.settle([ClaimRequest(one, bytes(32)) for one in ids], "done")

    await asyncio.gather(*(work(worker) for worker in range(6)))


async def test_statements_are_kept_only_where_a_session_is_ones_own(
    pooler: Pooler, database_url: str, mode: str
) -> None:
    async def connect() -> Connection:
        return await asyncpg.connect(pooler.by_way(database_url), statement_cache_size=0)

    assert await keeps_statements(connect) is (mode == "session")


def test_a_statement_that_was_not_found_again_is_an_outage_with_a_name():
    error = asyncpg.InvalidSQLStatementNameError('prepared statement "x" does not exist')
    meant = translated(error, "storing events")
    assert isinstance(meant, Unavailable), "no event is to blame"
    assert str(meant).startswith("storing events: a pooler in transaction mode before PostgreSQL keeps no prepared")
    assert isinstance(translated(asyncpg.DuplicatePreparedStatementError("x"), "storing events"), Unavailable)
    assert lost_connection(error)
    assert not isinstance(translated(error, "the handler's work", own_tables=False), Unavailable)
