"""What a replay asks the fleet's list reads the letters of its batch, and never a whole table."""

import time
from collections.abc import AsyncIterator

import asyncpg
import pytest

from tests.support.letters import letter
from unlost.dlq.record.letter_line import encode
from unlost.dlq.record.letter_state import Record
from unlost.dlq.record.query import Selection
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.letter_rows import Listed
from unlost.listener.store.postgres.letter_store import TableLetters
from unlost.listener.store.postgres.letters import LetterTable
from unlost.listener.store.postgres.migrations import migrate

COUNT, AT_ONCE = 3_000, 1_000
TABLES = ("letters", "letter_details", "letter_lines")


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


async def test_a_replay_reads_no_whole_table(database_url: str, connection: asyncpg.Connection) -> None:
    database = Database(database_url)
    await migrate(database)
    found = [letter(f"e{number}", at=1_700_000_000.0 + number) for number in range(COUNT)]
    await LetterTable(database, token="t").add("a", [Listed(one, encode(one), None) for one in found])
    await database.close()
    await connection.execute("VACUUM ANALYZE")  # now PostgreSQL knows that the tables are small

    database = Database(database_url, connections=1)
    async with database.acquire() as session:
        pid = await session.fetchval("SELECT pg_backend_pid()")
    before = await whole_reads(connection)
    async with TableLetters(database).replaying(Selection(), 0, "test") as taking:
        while taken := await taking.take(AT_ONCE):
            now = time.time()
            await taking.record([Record(one.letter.letter_id, "resolved", now, "stored") for one in taken])
    await database.close()
    while await connection.fetchval("SELECT count(*) FROM pg_stat_activity WHERE pid = $1", pid):
        pass  # a session reports what it read when it ends
    assert await whole_reads(connection) == before
    assert await connection.fetchval("SELECT count(*) FROM unlost.letters WHERE status = 'resolved'") == COUNT


async def whole_reads(connection: asyncpg.Connection) -> dict[str, int]:
    """How often each table was read as a whole."""
    await connection.execute("SELECT pg_stat_force_next_flush()")
    await connection.execute("SELECT pg_stat_clear_snapshot()")
    rows = await connection.fetch(
        "SELECT relname, seq_scan FROM pg_stat_user_tables WHERE schemaname = 'unlost' AND relname = ANY ($1)",
        TABLES,
    )
    return {str(name): scans for name, scans in rows}
