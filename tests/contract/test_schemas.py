"""Each group in its own schema: separate from other groups, the user's tables, and earlier versions."""

import asyncio
import os
from collections.abc import AsyncIterator

import asyncpg
import pytest
from click.testing import CliRunner

from unlost.listener.core.errors import Misconfigured, Transient
from unlost.listener.core.event import parse
from unlost.listener.ports.rows import Inserted, NewRow
from unlost.listener.store.postgres import earlier
from unlost.listener.store.postgres.cursors import PostgresCursors
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.membership import PostgresMembership
from unlost.listener.store.postgres.migrations import Migrated, check, known_migrations, migrate
from unlost.listener.store.postgres.rows import PostgresRows
from unlost.listener.store.postgres.statements import in_schema, quoted, schema_of
from unlost.ops.upkeep.migrate import migrate_command

NAMES = tuple(one.name for one in known_migrations())
OURS = frozenset(earlier.TABLES)
TABLES = "SELECT schemaname || '.' || tablename FROM pg_tables WHERE schemaname !~ '^pg_|^information_schema$'"


def new_row(event_id: str) -> NewRow:
    return NewRow(parse(b'{"event_id": "%s", "payload": 1}' % event_id.encode(), max_bytes=1000), 1, 1, 1.0)


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


async def done(url: str, group: str = "unlost") -> Migrated:
    database = Database(url, group=group)
    try:
        return await migrate(database)
    finally:
        await database.close()


async def make_earlier(connection: "asyncpg.Connection[asyncpg.Record]", *, files: int = 2, **cursors: str) -> None:
    """The tables as created by a version without schemas."""
    await connection.execute("CREATE TABLE migrations (name text PRIMARY KEY, sha256 text NOT NULL)")
    for one in known_migrations()[:files]:
        await connection.execute(one.sql)
        await connection.execute("INSERT INTO migrations VALUES ($1, $2)", one.name, one.sha256)
    for group, cursor in cursors.items():
        await connection.execute("INSERT INTO cursors (source, group_name, cursor) VALUES ('s', $1, $2)", group, cursor)
    await connection.execute(
        "INSERT INTO events (event_id, payload, payload_sha256, instance_id, claim_token, epoch, attempts, received_at)"
        " VALUES ('old', '1', sha256(''), 'a', 'a', 1, 1, now())"
    )


# -- names ------------------------------------------------------------------------------------


def test_a_groups_schema_is_like_no_other_groups() -> None:
    groups = ["unlost", "Unlost", "unlost_", "_unlost", "a", "A", "a.b", "a-b", "public", "pg_catalog", "x" * 56]
    schemas = [schema_of(one) for one in groups]
    assert schemas[0] == "unlost"
    assert len(set(schemas)) == len(groups)
    assert max(map(len, schemas)) == 63
    assert not any(one.startswith("pg_") or one == "public" for one in schemas)


@pytest.mark.parametrize("group", ["", "x" * 57, 'a"b', "a b", "a;b", "ä", "a\n"])
def test_other_names_are_refused(group: str) -> None:
    with pytest.raises(Misconfigured, match="1 to 56 letters"):
        schema_of(group)


def test_sql_is_written_for_one_schema_and_read_for_any() -> None:
    assert in_schema("SELECT FROM unlost.events e -- unlost", 'a"\\1b') == 'SELECT FROM "a""\\1b".events e -- unlost'
    assert quoted("a") == '"a"'


# -- separation -------------------------------------------------------------------------------


async def test_two_groups_on_one_database_store_the_same_events_each(database_url: str) -> None:
    for group in ("unlost", "billing"):
        database = Database(database_url, group=group)
        await migrate(database)
        store = PostgresRows(database, instance_id="a", token=group)
        assert await store.insert([new_row("e")]) == [Inserted()]
        assert await PostgresCursors(database).start("s", group, f"{group}.1") == f"{group}.1"
        look = await PostgresMembership(database, token=group, instance_id="a").declare(frozenset({"x"}))
        assert look.peers == {}
        assert [one["event_id"] for one in await store.page(None, 10)] == ["e"]
        await database.close()


@pytest.mark.parametrize("other", ["shop-shard1of3", "shop"])
async def test_shards_of_another_number_are_refused(database_url: str, other: str) -> None:
    for group in ("shop-shard1of2", "shop-shard2of2", "unlost", "shopping"):
        await done(database_url, group=group)
    with pytest.raises(Misconfigured, match=f"GROUP={other}: .* the group shop-shard[12]of2"):
        await done(database_url, group=other)
    await done(database_url, group="shop-shard1of2")


async def test_nothing_collides_with_the_users_own_tables(
    database_url: str, connection: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    for table in OURS:
        await connection.execute(f"CREATE TABLE public.{table} (mine integer)")
    assert await done(database_url) == Migrated("unlost", NAMES)
    database = Database(database_url)
    store = PostgresRows(database, instance_id="a", token="a")

    async def work(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        assert await connection.fetchval("SELECT current_user") == "unlost"  # as the schema
        await connection.execute("INSERT INTO events (mine) VALUES (7)")

    assert await store.insert_with(new_row("e"), work) == Inserted()
    assert await connection.fetchval("SELECT mine FROM public.events") == 7
    assert await connection.fetchval("SELECT event_id FROM unlost.events") == "e"
    await database.close()


# -- rights -----------------------------------------------------------------------------------


@pytest.fixture
async def clerk(database_url: str, connection: "asyncpg.Connection[asyncpg.Record]") -> AsyncIterator[str]:
    """The database's address for a role without any right to change its tables."""
    name = f"clerk_{os.urandom(4).hex()}"
    await connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'p'")
    base, _, database = database_url.rpartition("/")
    yield f"postgresql://{name}:p@{base.rpartition('@')[2]}/{database}"
    await connection.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")


async def test_a_role_that_may_only_write_rows_starts_where_nothing_is_missing(
    database_url: str, clerk: str, connection: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    name = clerk.partition("//")[2].partition(":")[0]
    with pytest.raises(Misconfigured, match="run `unlost migrate` as a role that may"):
        await done(clerk)
    await done(database_url)
    with pytest.raises(Misconfigured, match="run `unlost migrate` as a role that may"):
        await done(clerk)
    await connection.execute(f"GRANT USAGE ON SCHEMA unlost TO {name}")
    await connection.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA unlost TO {name}")
    assert await done(clerk) == Migrated("unlost")
    database = Database(clerk)
    assert await PostgresRows(database, instance_id="a", token="a").insert([new_row("e")]) == [Inserted()]
    await PostgresMembership(database, token="a", instance_id="a").declare(frozenset({"x"}))
    await database.close()


@pytest.mark.parametrize("migrating", [True, False])
async def test_tables_whose_rows_a_restore_has_not_read_yet_are_waited_for(
    database_url: str, connection: "asyncpg.Connection[asyncpg.Record]", migrating: bool
) -> None:
    """Without one transaction around it, a restore makes all tables first."""
    await done(database_url)
    await connection.execute("DELETE FROM unlost.migrations")
    database = Database(database_url)
    with pytest.raises(Transient, match="being restored"):
        await (migrate if migrating else check)(database)
    await database.close()


async def test_a_schema_that_a_restore_is_making_is_not_made_twice(
    database_url: str, connection: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """A listener that starts meanwhile looks again, and finds what the restore has made."""
    restoring = connection.transaction()
    await restoring.start()
    await connection.execute("CREATE SCHEMA unlost")
    migrating = asyncio.create_task(done(database_url))
    while not await connection.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
        assert not migrating.done()
    await restoring.commit()
    with pytest.raises(Transient, match="being restored"):
        await migrating
    assert (await done(database_url)).applied == NAMES


async def test_one_who_is_not_to_migrate_changes_nothing(database_url: str) -> None:
    database = Database(database_url)
    with pytest.raises(Misconfigured, match=f"lacks {NAMES[0]}, .*run `unlost migrate` first"):
        await check(database)
    await migrate(database)
    assert await check(database) == Migrated("unlost")
    await database.close()


async def test_the_command_says_what_it_did(database_url: str) -> None:
    shown = CliRunner(env={"DATABASE_URL": database_url, "GROUP": "billing"})
    first, second = await _run(shown), await _run(shown)
    assert first.splitlines() == [*(f"applied {name}" for name in NAMES), "schema unlost_billing is up to date"]
    assert second.splitlines() == ["schema unlost_billing is up to date"]


async def _run(shown: CliRunner) -> str:
    result = await asyncio.to_thread(shown.invoke, migrate_command, [])
    assert result.exit_code == 0, result.output
    return result.output


# -- earlier tables ---------------------------------------------------------------------------


@pytest.mark.parametrize("files", [1, 2])
async def test_tables_of_an_earlier_version_are_moved_with_their_rows(
    database_url: str, connection: "asyncpg.Connection[asyncpg.Record]", files: int
) -> None:
    await make_earlier(connection, files=files, unlost="j.7")
    assert await done(database_url) == Migrated("unlost", NAMES[files:], moved=True)
    there = {row[0] for row in await connection.fetch(TABLES)}
    assert {one for one in there if one.startswith("public.")} == set()
    database = Database(database_url)
    assert await PostgresCursors(database).read("s", "unlost") == "j.7"
    assert (await PostgresRows(database, instance_id="a", token="a").one("old") or {})["event_id"] == "old"
    await database.close()


async def test_earlier_tables_go_to_the_group_that_they_name(
    database_url: str, connection: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    await make_earlier(connection, billing="j.7")
    assert (await done(database_url)).moved is False
    assert (await done(database_url, "billing")).moved is True


async def test_earlier_tables_of_several_groups_are_refused(
    database_url: str, connection: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    await make_earlier(connection, billing="j.7", unlost="j.9")
    for group in ("unlost", "billing"):
        with pytest.raises(Misconfigured, match="the groups billing, unlost shared"):
            await done(database_url, group)
    assert (await done(database_url, "new")).moved is False


async def test_earlier_tables_in_use_are_not_moved(
    database_url: str, connection: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    await make_earlier(connection, unlost="j.7")
    await connection.execute("INSERT INTO listeners VALUES ('unlost', 't', 'a', '{}')")
    with pytest.raises(Transient, match="the last 30 s: a; stop them"):
        await done(database_url)
    await connection.execute("UPDATE listeners SET seen_at = seen_at - interval '31 seconds'")
    assert (await done(database_url)).moved
