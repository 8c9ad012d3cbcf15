"""A query for each event reads only the rows that it is about, however many rows there are."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import asyncpg
import pytest
from msgspec.structs import replace

from unlost.listener.claims.postgres.adapter import PostgresClaims
from unlost.listener.core.claim import ClaimRequest, HeldClaim
from unlost.listener.core.event import parse
from unlost.listener.ports.dead_letters import Burial
from unlost.listener.ports.rows import NewRow
from unlost.listener.store.postgres.burials import PostgresLetterRegister
from unlost.listener.store.postgres.connections import Connection
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.letters import LetterTable
from unlost.listener.store.postgres.migrations import migrate
from unlost.listener.store.postgres.reports import Reports
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


def row(event_id: str, key: str | None = None) -> NewRow:
    event = parse(b'{"event_id":"%s","payload":{"n":1}}' % event_id.encode(), max_bytes=100)
    return NewRow(event, 1, 1, 0.0, order_key=key)


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
        await store.insert_with(row(f"keyed-{event_id}", "key"), nothing)
        await store.same_content(row(event_id).event)
        await store.one(event_id)


async def stores_in_order(database: Database) -> None:
    store = PostgresRows(database, instance_id="a", token=TOKEN)
    for count in SOME:
        for prefix in (f"new{count}-", "row", "dead"):
            keyed = [replace(row(event_id), order_key=f"k{event_id}") for event_id in named(prefix, count)]
            await store.insert(keyed)
            two = [
                replace(row(event_id), order_key=f"k{i // 2}") for i, event_id in enumerate(named(f"{prefix}x", count))
            ]
            await store.insert(two)
            await store.blocked({one.event.event_id: one.order_key or "" for one in keyed})


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


@pytest.mark.parametrize("works", [stores, stores_in_order, enters, claims], ids=lambda one: one.__name__)
async def test_no_table_is_read_as_a_whole(
    database_url: str,
    connection: "asyncpg.Connection[asyncpg.Record]",
    works: Callable[[Database], Awaitable[None]],
):
    before = await scans_reported(connection)
    database = Database(database_url)
    await works(database)
    await database.close()
    assert await scans_reported(connection) == before


BUSY = """
    insert into unlost.claims (event_id, digest, token, epoch, takeovers, alone, company, state, span, until)
    select 'busy' || i, '', 'a', 1, 0, 0, 0, 'leased', '1 hour', now() + interval '1 hour'
    from generate_series(1, 3000) i;
    delete from unlost.claims where event_id like 'held%';
    analyze unlost.claims"""
"""Few claims, and many that were settled since the last vacuum, as in degraded mode under load."""


async def test_settling_a_large_batch_reads_nothing_that_was_settled_before(
    database_url: str, connection: "asyncpg.Connection[asyncpg.Record]"
):
    for statement in BUSY.split(";"):
        await connection.execute(statement)
    before = await scans_reported(connection)
    database = Database(database_url)
    place = PostgresClaims(database, token=TOKEN, lease_seconds=30, window_seconds=600)
    await place.place()
    ids = named("busy", 3_000)
    for first in (0, 1_000):
        some = ids[first : first + 500]
        await place.release(some)
        assert await place.settle([ClaimRequest(one, b"") for one in some], "dead") == [True] * 500
        done = ids[first + 500 : first + 1_000]
        assert await place.settle([ClaimRequest(one, b"") for one in done], "done") == [True] * 500
    await database.close()
    assert await scans_reported(connection) == before


async def scans_reported(connection: "asyncpg.Connection[asyncpg.Record]") -> dict[str, int]:
    """A session's reads are reported when it ends, or for this session when it flushes them."""
    while await connection.fetchval(OTHERS):  # noqa: ASYNC110 - only the server knows
        await asyncio.sleep(0.02)
    await connection.execute("select pg_stat_force_next_flush()")
    return {str(name): scans for name, scans in await connection.fetch(SCANS)}


LETTERS = f"""
    insert into unlost.letters (
        letter_id, instance_id, event_id, reason, error_class, stage, fingerprint, handler, first_at, last_at, heals,
        heal_at)
    select lpad(i::text, 12, '0'), 'a', 'e' || i, 'exhausted', 'transient', 'handle', 'f' || i % 3, 'h',
        to_timestamp(i), to_timestamp(i), i < {ROWS}, case when i < {ROWS} then now() + interval '1 hour' end
    from generate_series(1, {ROWS}) i;
    vacuum analyze unlost.letters; vacuum analyze unlost.letter_groups"""
READ = "select seq_tup_read + idx_tup_fetch from pg_stat_user_tables where relname = 'letters'"
ANOTHER = "insert into unlost.listeners (token, instance_id, places, handler) values ('b', 'b', '{{}}', 'other')"


@pytest.mark.parametrize("orphaned", [False, True])
async def test_counting_letters_for_a_human_reads_no_healing_letters(
    database_url: str, connection: "asyncpg.Connection[asyncpg.Record]", orphaned: bool
):
    for statement in [*LETTERS.split(";"), *([ANOTHER.format()] if orphaned else [])]:
        await connection.execute(statement)
    await scans_reported(connection)
    before = await connection.fetchval(READ)
    database = Database(database_url)
    sums = await LetterTable(database).sums()
    async with database.acquire() as asking:
        await Reports(asking, database.group).letter_sums()
    await database.close()
    assert (sums.needing_human, sums.oldest_at) == ((ROWS, 1.0) if orphaned else (1, ROWS))
    await scans_reported(connection)
    assert await connection.fetchval(READ) - before < 50
