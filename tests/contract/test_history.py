"""The console's history: exact while there are few rows, estimated and as cheap when there are many."""

from collections.abc import AsyncIterator

import pytest

from tests.support.letters import letter
from unlost.dlq.record.letter_line import encode
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.letter_rows import Listed
from unlost.listener.store.postgres.letters import LetterTable
from unlost.listener.store.postgres.migrations import migrate
from unlost.listener.store.postgres.reports import Reports
from unlost.ops.console import history
from unlost.ops.console.history import Histories, first_since

pytestmark = pytest.mark.database("migrated")

NOW = 1_800_000_000.0
ROWS = """
insert into unlost.events (event_id, type, payload, payload_sha256, instance_id, claim_token, epoch, attempts,
    received_at, processed_at)
select 'e' || i, case when i % 4 = 0 then null else 'order' end, '{}', sha256(''), 'a', 'a', 1, 1, now(),
    to_timestamp($1::float8 - 86400 * 4 + i * 864) from generate_series(1, 400) i
"""


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    await migrate(database)
    async with database.acquire("filling") as connection:
        await connection.execute(ROWS, NOW)
        await connection.execute("delete from unlost.events where event_id in ('e1', 'e399', 'e250')")
    some = [letter(f"l{number}", message="m", at=NOW - 3600 * number) for number in range(30)]
    await LetterTable(database, token="t").add("a", [Listed(one, encode(one), None) for one in some])
    yield database
    await database.close()


async def test_few_rows_are_counted_one_by_one(database: Database) -> None:
    found = await Histories(database, lambda: NOW).of(1)
    assert (found.exact, found.bucket_seconds, len(found.types[0].counts)) == (True, 1200.0, 72)
    assert {one.name: one.total for one in found.types} == {"order": 73, "(no type)": 25}
    (group,) = found.groups
    assert (group.name, group.total, found.letters_cut) == ("exhausted: ValueError", 24, False)
    assert group.fingerprint == letter("x", message="m").fingerprint
    assert sum((await Histories(database, lambda: NOW).of(3)).groups[0].counts) == 30


async def test_a_part_of_many_rows_is_read_and_multiplied(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "MOST_READ", 40)
    monkeypatch.setattr(history, "MOST_LETTERS", 10)
    found = await Histories(database, lambda: NOW).of(3)
    assert (found.exact, found.letters_cut) == (False, True)
    assert sum(one.total for one in found.types) == pytest.approx(300, abs=14)


async def test_the_first_row_of_a_time_is_found_across_deleted_rows(database: Database) -> None:
    async with database.acquire("looking") as connection:
        reports = Reports(connection)
        assert await first_since(reports, 0.0) == 1
        assert await first_since(reports, NOW - 86400 * 4 + 250 * 864) in (250, 251)
        assert await first_since(reports, NOW + 1) == 401
