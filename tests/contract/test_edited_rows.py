"""The row of an edited letter names its version; a copy of what the publisher sent is a duplicate of it."""

from collections.abc import AsyncIterator

import pytest

from tests.support.letters import letter
from unlost.dlq.record.event import edited_as, event_of
from unlost.listener.core.event import Event, parse
from unlost.listener.ports.rows import INSERTED, OTHER_ROW, SAME_ROW, NewRow
from unlost.listener.store.burials import burial_of
from unlost.listener.store.postgres.burials import PostgresLetterRegister
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.migrations import migrate
from unlost.listener.store.postgres.reports import Reports
from unlost.listener.store.postgres.rows import PostgresRows

pytestmark = pytest.mark.database("migrated")

LETTER = letter("e")
ORIGINAL = event_of(LETTER, max_bytes=1_000)
EDITED = event_of(LETTER, max_bytes=1_000, edited=b'{"event_id": "e", "payload": {"n": 2}}')
OTHER = parse(b'{"event_id": "e", "payload": {"n": 3}}', max_bytes=1_000)


def new(event: Event, version: int = 1) -> NewRow:
    return NewRow(event, 1, 1, 1.0, version > 1, edited_as(LETTER, version))


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    await migrate(database)
    yield database
    await database.close()


@pytest.fixture
def rows(database: Database) -> PostgresRows:
    return PostgresRows(database, instance_id="i", token="t")


async def test_the_row_names_the_version_and_a_copy_of_the_original_is_its_duplicate(
    rows: PostgresRows, database: Database
) -> None:
    burial = burial_of(LETTER)
    assert burial is not None
    register = PostgresLetterRegister(database, token="t")
    assert await register.enter([burial]) == ["buried"]
    assert await rows.insert([new(EDITED, 3)]) == [INSERTED]
    row = await rows.one("e")
    assert row is not None
    assert (row["letter_version"], row["payload"]) == (3, {"n": 2})
    assert await rows.insert([new(EDITED, 3)]) == [INSERTED], "our own, after a lost reply"
    later = PostgresRows(database, instance_id="i", token="later")
    for one, same in ((ORIGINAL, True), (EDITED, True), (OTHER, False)):
        assert await later.same_content(one) is same
        assert await later.insert([new(one)]) == [SAME_ROW if same else OTHER_ROW]
    assert await register.enter([burial]) == ["stored"], "its listener resolves the letter, if nobody else could"
    async with database.acquire() as connection:
        (audited,) = await Reports(connection, database.group).rows(["e"])
    assert audited.digest == ORIGINAL.digest, "the audit compares what was accepted"


async def test_edited_letters_are_stored_beside_others_of_one_batch(rows: PostgresRows, database: Database) -> None:
    others = [parse(b'{"event_id": "o%d", "payload": %d}' % (n, n), max_bytes=1_000) for n in range(4)]
    some = [new(others[0]), new(EDITED, 2), NewRow(others[1], 1, 1, 1.0, revives=True), new(others[2])]
    assert await rows.insert(some) == [INSERTED] * 4
    async with database.acquire() as connection:
        found = await connection.fetch("select event_id, letter_version from unlost.events order by 1")
    assert [tuple(row) for row in found] == [("e", 2), ("o0", None), ("o1", None), ("o2", None)]


async def test_a_handlers_transaction_stores_the_version_too(rows: PostgresRows) -> None:
    async def work(_: object) -> None:
        """Nothing."""

    assert await rows.insert_with(new(EDITED, 2), work) == INSERTED
    row = await rows.one("e")
    assert row is not None
    assert row["letter_version"] == 2
