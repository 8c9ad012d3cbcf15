"""The questions of operators' tools to a group's tables, asked of a real PostgreSQL."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from tests.contract.test_schemas import new_row
from unlost.listener.store.postgres.connections import Connection
from unlost.listener.store.postgres.cursors import PostgresCursors
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.migrations import migrate
from unlost.listener.store.postgres.reports import Reports
from unlost.listener.store.postgres.rows import PostgresRows

pytestmark = pytest.mark.database("migrated")

OURS, OTHER = "unlost", "other.group"


async def fill(url: str, group: str, *event_ids: str) -> None:
    database = Database(url, group=group)
    await migrate(database)
    rows = PostgresRows(database, instance_id="a", token="a", handler="shop:handle")
    await rows.insert([new_row(event_id) for event_id in event_ids])
    cursors = PostgresCursors(database)
    await cursors.start("source", group, "stem0")
    await cursors.start("source#3/64", group, "stem1")
    await database.close()


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


@pytest.mark.parametrize("group", [OURS, OTHER])
async def test_each_report_is_of_one_group(database_url: str, connection: Connection, group: str) -> None:
    await fill(database_url, group, "drill-1", "drill-2", "e")
    await fill(database_url, OTHER if group == OURS else OURS, "drill-1", "only-here")
    reports = Reports(connection, group, timeout=5)
    newest = await reports.newest()
    assert [(row.event_id, row.seq, row.handler) for row in await reports.rows(["e", "absent"])] == [
        ("e", newest, "shop:handle")
    ]
    whole = await reports.whole_row("e")
    assert whole is not None
    assert whole["payload"] == 1, "JSON is decoded"
    assert await reports.whole_row("absent") is None
    assert await reports.first_handled() == newest - 2
    assert await reports.cursors() == ["stem0"], "without those of partitions"
    assert (await reports.is_read(), await reports.members()) == (False, [])
    assert await reports.how_many(1_000) == 3
    assert sorted(event_id for event_id, _ in await reports.contents()) == ["drill-1", "drill-2", "e"]
    assert await reports.count_of_drill("drill-") == len(await reports.rows_of_drill("drill-")) == 2
    assert await reports.ids() == {"drill-1", "drill-2", "e"}
    assert await reports.count_after(newest - 2) == 2
    assert await reports.distinct_after(newest - 2) == (2, 2)
    assert await reports.span_after(newest - 2) > 0
    assert (await reports.transactions_after(newest - 2)).keys() == {"drill-2", "e"}
    assert len(await reports.database()) == 8


async def test_an_empty_table_has_no_newest_row(database_url: str, connection: Connection) -> None:
    await fill(database_url, OURS, "e")
    reports = Reports(connection)
    await reports.fill(1, 10)
    assert await reports.newest() == 11
    await reports.analyze_rows()
    await reports.truncate_rows()
    assert (await reports.newest(), await reports.first_handled()) == (0, None)
