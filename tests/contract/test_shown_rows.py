"""*Rows* in the console and in ``unlost top`` counts rows, not assigned numbers, and an estimate is marked as one."""

import asyncpg
import pytest

from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.migrations import migrate
from unlost.listener.store.postgres.statements import in_schema
from unlost.ops.watch import query
from unlost.ops.watch.picture import DatabaseState
from unlost.ops.watch.query import Watch
from unlost.ops.watch.targets import WatchTargets

pytestmark = pytest.mark.database("migrated")

GROUPS = ("unlost", "other.group")
STORE = """
insert into unlost.events (event_id, payload, payload_sha256, instance_id, claim_token, epoch, attempts, received_at)
select 'e-' || n, '1', '\\x00', 'a', 't', 1, 1, now() from generate_series(1, $1) n"""


async def shown(url: str, group: str) -> DatabaseState:
    database = Database(url, group=group)
    watch = Watch(WatchTargets((), None, (), group), database)
    try:
        picture, _ = await watch.look()
    finally:
        await watch.close()
        await database.close()
    assert picture.database is not None
    assert not picture.database.error
    return picture.database


async def asked(url: str, group: str, *statements: tuple[str, object]) -> None:
    database = Database(url, group=group)
    await migrate(database)
    await database.close()
    connection = await asyncpg.connect(url)
    for sql, value in statements:
        await connection.execute(in_schema(sql, database.schema), *([] if value is None else [value]))
    await connection.close()


@pytest.mark.parametrize("group", GROUPS)
async def test_numbers_that_were_given_out_are_no_rows(database_url: str, group: str):
    await asked(database_url, group)
    assert (await shown(database_url, group)).rows == 0
    await asked(database_url, group, (STORE, 50), ("delete from unlost.events where seq <= $1", 20))
    reported = await shown(database_url, group)
    assert (reported.rows, reported.estimated) == (30, False)


async def test_many_rows_are_estimated_and_called_so(database_url: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(query, "MOST_COUNTED", 1_000)
    await asked(database_url, "unlost", (STORE, 5_000))
    reported = await shown(database_url, "unlost")
    assert reported.estimated, "not analysed yet: the estimate is a minimum"
    await asked(
        database_url, "unlost", ("delete from unlost.events where seq <= $1", 1_000), ("analyze unlost.events", None)
    )
    reported = await shown(database_url, "unlost")
    assert reported.estimated
    assert 3_800 < reported.rows < 4_200
