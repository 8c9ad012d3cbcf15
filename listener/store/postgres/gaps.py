"""Declared gaps in PostgreSQL."""

import json
import secrets
from collections.abc import Mapping, Sequence

from unlost.listener.core.gap import FetchOutcome, Gap, GapTry, LastContact
from unlost.listener.store.postgres.database import Database


class PostgresGaps:
    """``Gaps`` in the table ``gaps``."""

    def __init__(self, database: Database, *, instance: str) -> None:
        self._database = database
        self._instance = instance
        self._listener = f"{instance} {secrets.token_hex(8)}"
        self._sql = database.statements("unlost.listener.store.postgres", "gaps.sql")

    async def record(self, gaps: Sequence[Gap]) -> None:
        """See ``Gaps``."""
        columns = zip(
            *((g.gap_id, g.source, g.how, g.after, g.resumed_at, g.missing, g.began_at, g.declared_at) for g in gaps),
            strict=True,
        )
        async with self._database.acquire("recording a gap") as connection:
            await connection.execute(self._sql["record"], self._instance, *map(list, columns))

    async def take(self, source: str, *, after: float, lease: float) -> GapTry | None:
        """See ``Gaps``."""
        async with self._database.acquire("taking a gap") as connection, connection.transaction():
            await connection.execute(self._sql["turn"], source)
            row = await connection.fetchrow(self._sql["take"], source, after, lease)
        return None if row is None else GapTry(Gap(*row[:-1]), row[-1])

    async def contacts(self, source: str) -> Sequence[LastContact]:
        """See ``Gaps``."""
        async with self._database.acquire("reading the last contacts with a source") as connection:
            rows = await connection.fetch(self._sql["contacts"], source, self._listener)
        return [LastContact(row["heard"], row["connected"], _numbers_of(row["numbers"]), row["at"]) for row in rows]

    async def keep_contact(self, source: str, contact: LastContact) -> None:
        """See ``Gaps``."""
        # The library writes ASCII, whatever a feed calls what it counts.
        numbers = None if contact.numbers is None else json.dumps(contact.numbers, separators=(",", ":"))
        values = contact.heard_ago, contact.connected_ago, numbers
        async with self._database.acquire("keeping the last contact with a source") as connection:
            await connection.execute(self._sql["keep_contact"], source, self._listener, *values)

    async def keep(self, gap_id: str, *, lease: float, why: str = "") -> None:
        """See ``Gaps``."""
        async with self._database.acquire("keeping a gap") as connection:
            await connection.execute(self._sql["keep"], gap_id, lease, why)

    async def fetched(
        self, gap_id: str, *, found: int, outcome: FetchOutcome | None, why: str, wait: float = 0.0
    ) -> None:
        """See ``Gaps``."""
        async with self._database.acquire("recording what filled a gap") as connection:
            await connection.execute(self._sql["fetched"], gap_id, found, outcome, why, wait)


def _numbers_of(text: str | None) -> Mapping[str, int] | None:
    return None if text is None else json.loads(text)
