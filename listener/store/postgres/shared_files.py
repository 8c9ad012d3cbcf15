"""Replays of files beside the fleet's list: their letters are leased there, and it learns what became of them.

So a replay of a file and one of the list, or two replays of copies of a file, never run a letter at the same time. If
PostgreSQL does not answer, the lock on the file and the claims of the events still hold, and the letter's listener
ships what became of it later.
"""

import contextlib
import secrets
from collections.abc import AsyncIterator, Sequence

from unlost.dlq.record.letter_state import Record, Status
from unlost.dlq.record.query import Selection
from unlost.dlq.store.entries import LetterEntry
from unlost.dlq.store.files import FileLetters
from unlost.dlq.store.port import TakenLetters, taken_by
from unlost.listener.core.errors import Misconfigured, Permanent, Transient
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.errors import LIBRARY_ERRORS
from unlost.listener.store.postgres.letters import LetterTable
from unlost.listener.store.postgres.taken_letters import ANSWER_SECONDS, LEASE_SECONDS, in_time, renewing

AWAY = (Transient, Permanent, Misconfigured, *LIBRARY_ERRORS)


class SharedFiles(FileLetters):
    """``LetterStore`` over files whose letters may be in the fleet's list too."""

    def __init__(self, files: FileLetters, database: Database) -> None:
        super().__init__(files.paths)
        self._table = LetterTable(database)

    async def still_answers(self) -> bool:
        """See ``LetterStore``."""
        return await self._table.database.still_answers(ANSWER_SECONDS)

    @contextlib.asynccontextmanager
    async def replaying(
        self, selection: Selection, limit: int, about: str, takes: frozenset[Status] | None = None
    ) -> AsyncIterator[TakenLetters]:
        """See ``LetterStore``."""
        takes = takes or taken_by(selection)
        async with super().replaying(selection, limit, about, takes) as files:
            taken = _SharedTaken(files, self._table, about, takes)
            async with renewing(self._table, taken.token):
                yield taken


class _SharedTaken:
    """``TakenLetters``: from locked files, and each letter leased in the list."""

    def __init__(self, files: TakenLetters, table: LetterTable, about: str, takes: frozenset[Status]) -> None:
        self.elsewhere = self.unreadable = 0
        self._takes = sorted(takes)
        self.token = secrets.token_hex(8)
        self._files = files
        self._table = table
        self._about = about

    async def take(self, most: int) -> Sequence[LetterEntry]:
        """See ``TakenLetters``."""
        while taken := await self._files.take(most):
            ids = [one.letter.letter_id for one in taken]
            free = set(ids)
            with contextlib.suppress(*AWAY):
                free = await self._lease(ids)
            if mine := [one for one in taken if one.letter.letter_id in free]:
                return mine
        return ()

    async def _lease(self, letter_ids: Sequence[str]) -> set[str]:
        """Lease letters; return those that still wait. One that is not listed yet waits."""
        sql = self._table.sql
        async with self._table.database.acquire("leasing letters") as connection:
            rows = await connection.fetch(sql["lease"], letter_ids, self.token, self._about, LEASE_SECONDS)
            leased = {row["letter_id"] for row in rows}
            over = {row["letter_id"] for row in await connection.fetch(sql["over"], list(leased), self._takes)}
        self.elsewhere += len(letter_ids) - len(leased)
        return leased - over

    async def record(self, records: Sequence[Record]) -> int:
        """See ``TakenLetters``. The file has it first."""
        made = records
        with contextlib.suppress(*AWAY):
            async with self._table.database.acquire("looking at leases of letters") as connection:
                made = await in_time(self._table, connection, records, self.token)
        late = len(records) - len(made)
        self.elsewhere += late
        await self._files.record(made)
        with contextlib.suppress(*AWAY):
            await self._table.note(made, shared=True)
            await self.free([one.letter_id for one in records])
        return late

    async def free(self, letter_ids: Sequence[str]) -> None:
        """See ``TakenLetters``."""
        with contextlib.suppress(*AWAY):
            async with self._table.database.acquire("freeing letters") as connection:
                await connection.execute(self._table.sql["free"], letter_ids, self.token)
