"""Outcomes of audits are kept in the group's schema, the latest ones, and the console shows the last."""

from collections.abc import AsyncIterator

import pytest

from unlost.listener.core.errors import UnlostError
from unlost.listener.store.postgres import audits
from unlost.listener.store.postgres.audits import LastAudit, last_audit, record
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.migrations import migrate
from unlost.ops.watch.query import Watch
from unlost.ops.watch.targets import WatchTargets

pytestmark = pytest.mark.database("migrated")


@pytest.fixture(params=["unlost", "other.group"])
async def database(database_url: str, request: pytest.FixtureRequest) -> AsyncIterator[Database]:
    made = Database(database_url, group=request.param)
    await migrate(made)
    yield made
    await made.close()


async def last(database: Database) -> LastAudit | None:
    async with database.acquire() as connection:
        return await last_audit(connection, database.group)


async def test_the_last_audit_is_known_and_only_the_latest_are_kept(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audits, "KEPT", 3)
    assert await last(database) is None
    for number in range(5):
        await record(database, "ana@host", number, {"missing": number} if number % 2 == 0 else {})
    found = await last(database)
    assert found is not None
    assert (found.who, found.accepted, found.wrong) == ("ana@host", 4, {"missing": 4})
    async with database.acquire() as connection:
        kept = await connection.fetch(f'select accepted, balanced from "{database.schema}".audits order by number')
        now = await connection.fetchval("select extract(epoch from clock_timestamp())::float8")
    assert [tuple(one) for one in kept] == [(2, False), (3, True), (4, False)]
    assert 0 <= now - found.at < 60


async def test_the_console_sees_the_last_audit(database: Database) -> None:
    await record(database, "ana@host", 7, {"doubled": 1})
    watch = Watch(WatchTargets((), None, (), database.group), database)
    picture, _ = await watch.look()
    await watch.close()
    assert picture.database is not None
    assert picture.database.audit == await last(database)


async def test_tables_of_an_earlier_version_have_no_audit(database: Database) -> None:
    async with database.acquire() as connection:
        await connection.execute(f'drop table "{database.schema}".audits')
    assert await last(database) is None
    with pytest.raises(UnlostError):
        await record(database, "ana@host", 7, {})
