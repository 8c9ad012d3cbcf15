"""The audit reads rows: which of them a handler should have processed."""

import asyncpg
import httpx
import pytest

from tests.contract.test_schemas import new_row
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.migrations import migrate
from unlost.listener.store.postgres.reports import Reports
from unlost.listener.store.postgres.rows import PostgresRows
from unlost.ops.audit import query
from unlost.ops.audit.places import AuditSettings, in_one_sentence
from unlost.ops.kit.command import UsageProblem

pytestmark = pytest.mark.database("migrated")


async def test_a_table_that_does_not_answer_isin_one_sentence(database_url: str) -> None:
    database = Database(database_url)
    await migrate(database)
    await database.close()
    locking, asking = await asyncpg.connect(database_url), await asyncpg.connect(database_url)
    async with locking.transaction():
        await locking.execute("LOCK TABLE unlost.events")
        with pytest.raises(UsageProblem, match="did not answer within"), in_one_sentence(AuditSettings()):
            await query.rows(Reports(asking, timeout=0.5), ["e"], handled_from=None)
    await locking.close()
    await asking.close()


@pytest.mark.parametrize(
    ("handler_now", "stored", "unhandled"),
    [
        ("shop:handle", {"early": None, "handled": "shop:handle@1", "skipped": None}, {"skipped"}),
        ("shop:handle", {"one": None, "two": None}, {"one", "two"}),
        (None, {"handled": "shop:handle@1", "later": None}, set()),
    ],
)
async def test_rows_from_before_there_was_a_handler_are_right(
    database_url: str, handler_now: str | None, stored: dict[str, str | None], unhandled: set[str]
) -> None:
    database = Database(database_url)
    await migrate(database)
    for event_id, handler in stored.items():
        await PostgresRows(database, instance_id="a", token="a", handler=handler).insert([new_row(event_id)])
    await database.close()
    listener = httpx.MockTransport(lambda _: httpx.Response(200, json={"handler": handler_now}))
    connection = await asyncpg.connect(database_url)
    async with httpx.AsyncClient(transport=listener) as client:
        since = await query.handled_from(client, ["http://listener"], Reports(connection))
    rows = await query.rows(Reports(connection), [*stored, "absent"], handled_from=since)
    await connection.close()
    assert rows.keys() == stored.keys()
    assert {event_id for event_id, row in rows.items() if not row.handled} == unhandled
