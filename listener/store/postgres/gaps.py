"""Declared gaps in PostgreSQL."""

from collections.abc import Sequence

from unlost.listener.core.gap import FetchOutcome, Gap, GapTry
from unlost.listener.store.postgres.database import Database


class PostgresGaps:
    """``Gaps`` in the table ``gaps``."""

    def __init__(self, database: Database, *, instance: str) -> None:
        self._database = database
        self._instance = instance
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
        async with self._database.acquire("taking a gap") as connection:
            row = await connection.fetchrow(self._sql["take"], source, after, lease)
        return None if row is None else GapTry(Gap(*row[:-1]), row[-1])

    async def fetched(
        self, gap_id: str, *, found: int, outcome: FetchOutcome | None, why: str, wait: float = 0.0
    ) -> None:
        """See ``Gaps``."""
        async with self._database.acquire("recording what filled a gap") as connection:
            await connection.execute(self._sql["fetched"], gap_id, found, outcome, why, wait)
