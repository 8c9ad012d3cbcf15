"""Databases of earlier versions are brought up to date, and are then like new ones."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from tests.support.letters import letter
from unlost.dlq.record.letter_line import encode
from unlost.dlq.record.query import Selection
from unlost.listener.ports.dead_letters import Tried
from unlost.listener.store.postgres.connections import Connection
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.healing import PostgresHealing
from unlost.listener.store.postgres.letter_store import TableLetters
from unlost.listener.store.postgres.migrations import EDITED, RECORD, known_migrations, migrate

CHECKSUMS = {
    "0001_events_and_claims.sql": "b7492ae70fc00ae36808c93a14244e270df2632888ca8eacd6bbd6076033c095",
    "0002_burials.sql": "930027493b52b695011ca256e8ba48d5311d391458f129cf21fa448819270538",
    "0003_a_schema_for_each_group.sql": "0faf441982b84437bdc7c9b378d9557eda1467cb3c6995babb35072cb5bcd3a3",
    "0004_handlers.sql": "4f2cb63c9b3125c3054138dcb6c7c7dc5d3a64bb45fa5a3613e3d081652b7ab2",
    "0005_suspects.sql": "b98dff2392a6fe36b4f4e37d6c81de66c89eeff001c851e1d831326dbf8accc4",
    "0006_store_generations.sql": "0f02adac22ef4487125ec1a589ff0819f8594617db6e8d4be8747d392191999b",
    "0007_losses.sql": "6647f98a7c37a8c6f6aa0c56b4ae89d8b2560d2ee0fa138f680da5436a7d4a15",
    "0008_letters.sql": "e11d612269dbd6eb60f6f9064738556c94c616edc9f194c633c0eb50d2cc3d4e",
    "0009_gaps.sql": "5c14f46309c407dfe6228e7a09820ada5860d8a0e8f3b664b78e13028ae03113",
    "0010_gaps_fetched.sql": "58823e373d149069f4c95b4524952b1341fa71062d74dcd50dee067f0d88851c",
    "0011_trail.sql": "5b1ff15b4ec5070d9b84746e8db1494f2edae1925ddc38b8ca8a9c238dfa9783",
    "0012_groups_of_handlers.sql": "12b2b3e756b746e2d455ff7467affef19bafe2d0bfc84729793480a560c2e41d",
    "0013_search_letters.sql": "38dafce45e2c22a79a0ae5f4d178ef389794f3cd7abd7bdd4b5e3fa93aea276e",
    "0014_edited_letters.sql": "578d953ed836889aa893becfb69d12fb769f76825c5c8a432da03db7d4c09443",
    "0015_effects.sql": "2614b5df4ab67310274f8ff79b21299c503dc6907a0b91a28ae484fc856ddd3a",
    "0016_pauses.sql": "8fdad546d354d759e3bfaae6414349f9f0c5f9b6ec72a3091a94fa9c560249cb",
    "0017_notifications.sql": "282e554f6bcbd3c50b3b2a1ab64cab546231cca9c030233e2656723cf120bab1",
    "0018_letters_by_the_end_of_their_id.sql": "97616678142653671bff07d7dd4d71b4452b51a9f2abf7671814d728789989e2",
    "0019_order_per_key.sql": "1ee7271835222b72fd65250a5f9b416cb7ff6455d3cf8a25b3d440493e56b80c",
    "0020_followers_go.sql": "8de97f700716c6178017ed839801337276d17d1cf75e3bf1dc417625ba4f37b4",
    "0021_routes_of_listeners.sql": "cc3a36dfc7adca5316dadb00258d2f795c26fc0054ff4befae1a3b54851e753b",
    "0022_less_work_for_a_new_state.sql": "173a38792ad13b14084f17453c4d8293d90ec805a159cb5153a269bd19062822",
    "0023_letters_that_stop_reading.sql": "aa08b43bfb2a33e9422c4eee54642ef5a5659adad67c0418bed4a564c6ecfeaa",
    "0024_audits.sql": "61c69c244ce84d6970fc6178925a47f6e8b8d76409ec4bf6e1fff809ec87c612",
    "0025_letters_and_their_details.sql": "ff25903b261311ce22db327b851ceb0490f4b47737aebb829e2afb870809eb0c",
    "0026_contacts_and_leases_of_gaps.sql": "6f0173c60956b6fd34f0a38f5a0c615fdb8386e992d4ee0cee47306490094e94",
}
"""A file that was on the main branch is never changed: enter new files here, and correct none."""

LAST_OLD, BY_HANDLER = "0011_trail.sql", "0012_groups_of_handlers.sql"
SHAPE = """
SELECT 'column', table_name, column_name, data_type || ' ' || is_nullable || coalesce(column_default, '')
    || coalesce(generation_expression, '') FROM information_schema.columns WHERE table_schema = 'unlost'
UNION ALL SELECT 'index', tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'unlost'
UNION ALL SELECT 'routine', proname, '', pg_get_functiondef(oid) FROM pg_proc
WHERE pronamespace = 'unlost'::regnamespace
UNION ALL SELECT 'trigger', tgrelid::regclass::text, tgname, pg_get_triggerdef(oid) FROM pg_trigger
WHERE NOT tgisinternal
ORDER BY 1, 2, 3
"""
BEFORE_DETAILS = "0024_audits.sql"
ADD = """
INSERT INTO unlost.letters (letter_id, instance_id, event_id, reason, error_class, stage, error_type, message,
    fingerprint, handler, first_at, last_at, heals, heal_at, heal_base)
SELECT $1, 'i', $1, 'exhausted', 'transient', 'handle', 'X', 'm', 'same', $2, now(), now(), true, now(), 0
"""


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


async def shape_of(connection: Connection) -> list[tuple[object, ...]]:
    return [tuple(row) for row in await connection.fetch(SHAPE)]


async def make_old(connection: Connection, last: str = LAST_OLD) -> None:
    """The tables of an earlier version, as its listeners made them."""
    await connection.execute("CREATE SCHEMA unlost")
    async with connection.transaction():
        await connection.execute("SET LOCAL search_path = unlost")
        await connection.execute(RECORD)
        for one in known_migrations():
            if one.name <= last:
                await connection.execute(one.sql)
                await connection.execute("INSERT INTO migrations VALUES ($1, $2)", one.name, one.sha256)


async def add(connection: Connection, name: str, handler: str) -> None:
    one = letter(name)
    await connection.execute(ADD, one.letter_id, handler)
    await connection.execute("INSERT INTO unlost.letter_lines VALUES ($1, $2)", one.letter_id, encode(one))


async def new_shape(database_url: str, connection: Connection) -> list[tuple[object, ...]]:
    await migrated(database_url)
    shape = await shape_of(connection)
    await connection.execute("DROP SCHEMA unlost CASCADE")
    return shape


async def migrated(database_url: str) -> tuple[str, ...]:
    database = Database(database_url)
    try:
        return (await migrate(database)).applied
    finally:
        await database.close()


def test_no_migration_was_changed() -> None:
    assert {one.name: one.sha256 for one in known_migrations()} == CHECKSUMS
    assert {*EDITED.values()}.isdisjoint(CHECKSUMS.values())


async def test_letters_of_an_old_database_heal_by_handler(database_url: str, connection: Connection) -> None:
    fresh = await new_shape(database_url, connection)
    await make_old(connection)
    await add(connection, "a", "shop:handle@1")
    await add(connection, "b", "shop:handle@2")
    await add(connection, "c", "shop:other")
    await connection.execute("UPDATE unlost.letter_groups SET probes = 2, failures = 2")
    assert await migrated(database_url) == tuple(name for name in CHECKSUMS if name > LAST_OLD)
    assert await shape_of(connection) == fresh
    found = "SELECT count(*) FROM unlost.letter_lines WHERE payload @> '{\"n\": 1}'"
    assert await connection.fetchval(found) == 3
    groups = await connection.fetch(
        "SELECT handler_name, open, healing, probes, failures FROM unlost.letter_groups ORDER BY 1"
    )
    assert [tuple(row) for row in groups] == [("shop:handle", 2, 2, 2, 2), ("shop:other", 1, 1, 2, 2)]
    await heal(database_url)
    healing = "SELECT handler_name, sum(healing)::int FROM unlost.letter_groups GROUP BY 1 ORDER BY 1"
    assert [tuple(row) for row in await connection.fetch(healing)] == [("shop:handle", 0), ("shop:other", 1)]


async def test_letters_of_an_old_database_keep_their_states_and_are_found(
    database_url: str, connection: Connection
) -> None:
    fresh = await new_shape(database_url, connection)
    await make_old(connection, BEFORE_DETAILS)
    for name in ("a", "b", "c"):
        await add(connection, name, "shop:handle")
    await connection.execute("UPDATE unlost.letters SET type = 'order', route = 'order.*', message = 'why'")
    await connection.execute(
        "UPDATE unlost.letters SET status = 'resolved', state_at = now(), heal_at = NULL WHERE event_id LIKE '%b'"
    )
    before = await connection.fetch("SELECT * FROM unlost.letter_groups")
    assert await migrated(database_url) == tuple(name for name in CHECKSUMS if name > BEFORE_DETAILS)
    assert await shape_of(connection) == fresh
    assert await connection.fetch("SELECT * FROM unlost.letter_groups") == before
    database = Database(database_url)
    store = TableLetters(database)
    for found in (
        Selection(),
        Selection(types=frozenset({"order"})),
        Selection(text="WHY"),
        Selection(fingerprint="same"),
    ):
        page = await store.latest(found, 0)
        assert sorted((one.letter.event_id, one.state.status) for one in page.entries) == [
            ("a", "open"), ("b", "resolved"), ("c", "open"),
        ]  # fmt: skip
    open_ones = await store.latest(Selection(fingerprint="same", statuses=frozenset({"open"})), 0)
    assert [one.letter.event_id for one in open_ones.entries] == ["a", "c"]
    (board,) = await store.board()
    assert (board["type"], board["route"], board["handler"]) == ("order", "order.*", "shop:handle")
    await database.close()


async def test_a_letter_that_is_shipped_while_tables_change_keeps_its_details(
    database_url: str, connection: Connection
) -> None:
    await make_old(connection, BEFORE_DETAILS)
    other = await asyncpg.connect(database_url)
    shipping = other.transaction()
    await shipping.start()
    await add(other, "a", "shop:handle")
    migrating = asyncio.create_task(migrated(database_url))
    waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'unlost.letters'::regclass"
    async with asyncio.timeout(30):
        while not migrating.done() and not await connection.fetchval(waits):  # noqa: ASYNC110  the lock of another process
            await asyncio.sleep(0.01)
    await shipping.commit()
    await migrating
    assert await connection.fetchval("SELECT array_agg(event_id) FROM unlost.letter_details") == [letter("a").letter_id]
    await other.close()


async def heal(database_url: str) -> None:
    database = Database(database_url)
    healing = PostgresHealing(database, token="t", instance="b", handler="shop:handle", attempts=9)
    (group,) = await healing.groups(9)
    letters = await healing.take(group, 9)
    assert [(one.letter_id[-1], one.tries) for one in letters] == [("a", 2), ("b", 2)]
    await healing.ended(group, [Tried(one.letter_id, "stored", "stored") for one in letters], probe_failed=False)
    await healing.leave(group, 0, 0.0)
    await database.close()


async def test_a_database_with_the_file_that_was_edited_is_not_refused(
    database_url: str, connection: Connection
) -> None:
    fresh = await new_shape(database_url, connection)
    await make_old(connection, BY_HANDLER)
    await add(connection, "a", "shop:handle@1")
    await add(connection, "b", "shop:handle@2")
    await connection.execute("UPDATE unlost.letter_groups SET probes = 2")
    await connection.execute("DELETE FROM unlost.migrations WHERE name = $1", BY_HANDLER)
    for name, sha256 in EDITED.items():
        await connection.execute("UPDATE unlost.migrations SET sha256 = $2 WHERE name = $1", name, sha256)
    assert await migrated(database_url) == tuple(name for name in CHECKSUMS if name > LAST_OLD)
    assert await shape_of(connection) == fresh
    await heal(database_url)
