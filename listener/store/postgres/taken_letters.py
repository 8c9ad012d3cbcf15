"""The letters that one replay has leased from the fleet's list, and how the lease is renewed."""

import asyncio
import contextlib
import datetime
import secrets
from collections.abc import AsyncIterator, Iterator, Sequence

import asyncpg

from unlost.dlq.record.letter_state import Record, Status
from unlost.dlq.record.query import Selection
from unlost.dlq.store.entries import BYTES_AT_ONCE, LetterEntry
from unlost.dlq.store.port import Unreachable
from unlost.listener.core.errors import Misconfigured, Permanent, Transient
from unlost.listener.store.postgres.connections import Connection
from unlost.listener.store.postgres.errors import LIBRARY_ERRORS
from unlost.listener.store.postgres.letters import LetterTable

LEASE_SECONDS = 30.0
CHOSEN_AT_ONCE = 1_000
ANSWER_SECONDS = 1.0
"""How long a replay that gives up waits for PostgreSQL once more, to free its leases. They end by themselves too."""
FIRST = datetime.datetime.min.replace(tzinfo=datetime.UTC)


class TableTaken:
    """``TakenLetters``: each letter is leased for a while, in the name of one replay."""

    def __init__(
        self, table: LetterTable, selection: Selection, limit: int, about: str, takes: frozenset[Status]
    ) -> None:
        self.elsewhere = self.unreadable = 0
        self._table = table
        self._takes = takes
        self._sql = table.sql
        self._selection = selection
        self._left = limit
        self._limited = bool(limit)
        self._about = about
        self.token = secrets.token_hex(8)
        self._place = FIRST, ""
        self._chosen: list[asyncpg.Record] = []
        self._ahead: asyncio.Task[list[asyncpg.Record]] | None = None

    async def take(self, most: int) -> Sequence[LetterEntry]:
        """See ``TakenLetters``."""
        with unreachable():
            while most := min(most, self._left) if self._limited else most:
                if not (rows := await self._next(most)):
                    break
                free = [row["letter_id"] for row in rows if not row["held"]]
                self.elsewhere += len(rows) - len(free)
                if free and (taken := await self._lease(free)):
                    self._left -= len(taken)
                    return taken
        return ()

    async def _next(self, most: int) -> list[asyncpg.Record]:
        """Return the next letters to lease. Those after them are chosen meanwhile: another may lease them first.

        If none was found then, letters may have come since.
        """
        if not self._chosen:
            ahead, self._ahead = self._ahead, None
            self._chosen = (await ahead if ahead else None) or await self._choose()
            if self._chosen:
                self._ahead = asyncio.create_task(self._choose(), name="choose letters ahead")
        rows, self._chosen = self._chosen[:most], self._chosen[most:]
        return rows

    async def _choose(self) -> list[asyncpg.Record]:
        rows = await self._table.fetch(
            "choosing letters", "next", self._selection, *self._place, CHOSEN_AT_ONCE,
            self._selection.asks_for_rejected, BYTES_AT_ONCE, takes=self._takes,
        )  # fmt: skip
        if rows:
            self._place = rows[-1]["last_at"], rows[-1]["letter_id"]
        return rows

    async def close(self) -> None:
        """Choose no more."""
        if self._ahead is not None:
            self._ahead.cancel()
            await asyncio.gather(self._ahead, return_exceptions=True)

    async def _lease(self, letter_ids: Sequence[str]) -> list[LetterEntry]:
        """Lease letters, and read them only then: another replay may have ended one meanwhile."""
        async with self._table.database.acquire("leasing letters") as connection:
            leased = await connection.fetch(self._sql["lease"], letter_ids, self.token, self._about, LEASE_SECONDS)
            ids = [row["letter_id"] for row in leased]
            rows = await connection.fetch(self._table.select("taken"), ids, sorted(self._takes))
            found = await self._table.entries(connection, rows)
            entries = [one for one in found if not one.unreadable]
            waiting = {one.letter.letter_id for one in entries}
            if over := [one for one in ids if one not in waiting]:
                await connection.execute(self._sql["free"], over, self.token)
        self.elsewhere += len(letter_ids) - len(ids)
        self.unreadable += len(found) - len(entries)
        return entries

    async def record(self, records: Sequence[Record]) -> int:
        """See ``TakenLetters``."""
        with unreachable():
            async with self._table.database.acquire("recording a replay") as connection, connection.transaction():
                made = await in_time(self._table, connection, records, self.token)
                late = len(records) - len(made)
                if left := await self._table.resolve(connection, made, self.token):
                    await self._table.apply(connection, left, shared=False)
                if left or late:
                    await connection.execute(self._sql["free"], [one.letter_id for one in records], self.token)
        self.elsewhere += late
        return late

    async def free(self, letter_ids: Sequence[str]) -> None:
        """See ``TakenLetters``."""
        with unreachable():
            async with self._table.database.acquire("freeing letters") as connection:
                await connection.execute(self._sql["free"], letter_ids, self.token)


async def in_time(
    table: LetterTable, connection: Connection, records: Sequence[Record], token: str
) -> Sequence[Record]:
    """Return the records without edits of letters that are resolved, or leased by another, meanwhile."""
    if not (edited := [one.letter_id for one in records if one.what == "edited"]):
        return records
    await connection.execute(table.sql["renew"], token, LEASE_SECONDS)  # nobody takes one before this ends
    late = {row["letter_id"] for row in await connection.fetch(table.sql["too_late"], edited, token)}
    return [one for one in records if one.what != "edited" or one.letter_id not in late]


@contextlib.asynccontextmanager
async def renewing(table: LetterTable, token: str) -> AsyncIterator[None]:
    """Renew the leases of one replay, and end them with it."""
    keeping = asyncio.create_task(_renew(table, token), name="renew leases of letters")
    try:
        yield
    finally:
        keeping.cancel()
        await asyncio.wait({keeping})
        with contextlib.suppress(Transient, Permanent, Misconfigured):
            async with table.database.acquire("freeing letters") as connection:
                await connection.execute(table.sql["free_all"], token)


async def _renew(table: LetterTable, token: str) -> None:
    """Renew until cancelled. If that fails for too long, the claims still keep two replays apart."""
    while True:
        await asyncio.sleep(LEASE_SECONDS / 3)
        with contextlib.suppress(Transient, Permanent):
            async with table.database.acquire("renewing leases of letters") as connection:
                await connection.execute(table.sql["renew"], token, LEASE_SECONDS)


@contextlib.contextmanager
def unreachable() -> Iterator[None]:
    """Turn errors of PostgreSQL into ``Unreachable``."""
    try:
        yield
    except (Transient, Permanent, Misconfigured, *LIBRARY_ERRORS) as error:
        raise Unreachable(f"the fleet's list cannot be used: {error}") from error
