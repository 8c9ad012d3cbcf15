"""A query for each event reads only the rows that it is about, however many rows there are."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import asyncpg
import pytest

from unlost.listener.claims.postgres.adapter import PostgresClaims
from unlost.listener.core.claim import ClaimRequest, HeldClaim
from unlost.listener.core.event import parse
from unlost.listener.ports.dead_letters import Burial
from unlost.listener.ports.rows import NewRow
from unlost.listener.store.postgres.burials import PostgresLetterRegister
from unlost.listener.store.postgres.database import Connection, Database
from unlost.listener.store.postgres.migrations import migrate
from unlost.listener.store.postgres.rows import PostgresRows

ROWS = 30_000
FILL = f"""
    insert into unlost.events
        (event_id, payload, payload_sha256, instance_id, claim_token, epoch, attempts, received_at)
    select 'row' || i, '{{}}', sha256(''), 'a', 'a', 1, 1, now() from generate_series(1, {ROWS}) i;
    insert into unlost.buried (event_id, digest) select 'dead' || i, '' from generate_series(1, {ROWS}) i;
    insert into unlost.claims (event_id, digest, token, epoch, takeovers, alone, company, state, span, until)
    select 'held' || i, '', 'b', 1, 0, 0, 0, 'leased', '1 hour', now() + interval '1 hour'
    from generate_series(1, {ROWS}) i;
    vacuum analyze unlost.events; vacuum analyze unlost.buried; vacuum analyze unlost.claims"""
SCANS = "select relname, seq_scan from pg_stat_user_tables where relname in ('events', 'buried', 'claims')"
OTHERS = "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
TOKEN = "a"
SOME = (1, 100)


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    database = Database(database_url)
    await migrate(database)
    await database.close()
    connection = await asyncpg.connect(database_url)
    for statement in FILL.split(";"):
        await connection.execute(statement)
    yield connection
    await connection.close()


def named(prefix: str, count: int) -> list[str]:
    return [f"{prefix}{number}" for number in range(1, count + 1)]


def row(event_id: str) -> NewRow:
    return NewRow(parse(b'{"event_id":"%s","payload":{"n":1}}' % event_id.encode(), max_bytes=100), 1, 1, 0.0)


async def nothing(_: Connection) -> None:
    """A handler that does nothing."""


async def stores(database: Database) -> None:
    store = PostgresRows(database, instance_id="a", token=TOKEN)
    for count in SOME:
        for prefix in (f"new{count}-", "row", "dead"):
            await store.insert([row(event_id) for event_id in named(prefix, count)])
            await store.settled([ClaimRequest(event_id, b"") for event_id in named(prefix, count)])
    for event_id in ("one", "row1", "dead1"):
        await store.insert_with(row(event_id), nothing)
        await store.same_content(row(event_id).event)
        await store.one(event_id)


async def enters(database: Database) -> None:
    register = PostgresLetterRegister(database, token=TOKEN)
    for count in SOME:
        for prefix in (f"late{count}-", "row", "dead", "held"):
            await register.enter([Burial(event_id, b"", f"l{event_id}", True) for event_id in named(prefix, count)])


async def claims(database: Database) -> None:
    place = PostgresClaims(database, token=TOKEN, lease_seconds=30, window_seconds=600)
    await place.place()
    for count in SOME:
        for prefix in (f"mine{count}-", "row", "dead", "held"):
            ids = named(prefix, count)
            await place.claim([ClaimRequest(event_id, b"") for event_id in ids], take_over=True)
            await place.renew([HeldClaim(event_id, b"", 1, 0) for event_id in ids])
            await place.replicate([HeldClaim(event_id, b"", 1, 0) for event_id in ids])
            await place.release(ids)
            await place.settle([ClaimRequest(event_id, b"") for event_id in ids], "dead")
            await place.settle([ClaimRequest(event_id, b"") for event_id in ids], "done")


@pytest.mark.parametrize("works", [stores, enters, claims], ids=lambda one: one.__name__)
async def test_no_table_is_read_as_a_whole(
    database_url: str,
    connection: "asyncpg.Connection[asyncpg.Record]",
    works: Callable[[Database], Awaitable[None]],
):
    before = await scans_told(connection)
    database = Database(database_url)
    await works(database)
    await database.close()
    assert await scans_told(connection) == before


async def scans_told(connection: "asyncpg.Connection[asyncpg.Record]") -> dict[str, int]:
    """A session's reads are reported when it ends, or for this session when it flushes them."""
    while await connection.fetchval(OTHERS):  # noqa: ASYNC110 - only the server knows
        await asyncio.sleep(0.02)
    await connection.execute("select pg_stat_force_next_flush()")
    return dict(await connection.fetch(SCANS))
