"""The trail in PostgreSQL: one chain for each group (``dlq/record/trail.py``)."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from itertools import islice
from pathlib import Path

import msgspec

from unlost.dlq.record.trail import Act, TrailEntry, link, retold, whole
from unlost.listener.store.postgres.database import Database

PAGE = 1_000


class TableTrail:
    """The table ``trail``."""

    def __init__(self, database: Database) -> None:
        self._database = database
        sql = database.statements("unlost.listener.store.postgres", "trail.sql")
        self._sql = {name: text.replace("{fields}", sql["fields"]) for name, text in sql.items()}

    async def append(self, act: Act) -> TrailEntry:
        """Append; return once it is committed. Others wait for their turn."""
        async with self._database.acquire("writing the trail") as connection, connection.transaction():
            await connection.execute(self._sql["one_at_a_time"])
            row = await connection.fetchrow(self._sql["last"])
            made = link(act, after=None if row is None else TrailEntry(**dict(row.items())), at=time.time())
            await connection.execute(self._sql["append"], *msgspec.structs.astuple(made))
        return made

    async def merge(self, path: Path) -> int:
        """Append the entries of a file that are not here yet, in their order; return how many. Raises ``BrokenTrail``.

        Each keeps its time and its author, and is merged once, whoever merges the file how often. Nothing is merged of
        a file whose chain is broken.
        """
        await asyncio.to_thread(lambda: sum(1 for _ in whole(path)))
        links, merged = whole(path), 0
        while page := await asyncio.to_thread(lambda: list(islice(links, PAGE))):
            merged += await self._merge(page, path)
        return merged

    async def _merge(self, links: Sequence[TrailEntry], path: Path) -> int:
        async with self._database.acquire("merging the trail") as connection, connection.transaction():
            await connection.execute(self._sql["one_at_a_time"])
            hashes = [one.hash for one in links]
            known = {row[0] for row in await connection.fetch(self._sql["merged"], hashes)}
            row = await connection.fetchrow(self._sql["last"])
            last = None if row is None else TrailEntry(**dict(row.items()))
            fresh = [one for one in links if one.hash not in known]
            for one in fresh:
                last = link(retold(one, path), after=last, at=one.at / 1_000_000)
                await connection.execute(self._sql["append"], *msgspec.structs.astuple(last))
        return len(fresh)

    async def latest(self, most: int) -> list[TrailEntry]:
        """The latest entries, newest first."""
        async with self._database.acquire("reading the trail") as connection:
            return [TrailEntry(**dict(row.items())) for row in await connection.fetch(self._sql["latest"], most)]

    async def each(self) -> AsyncIterator[list[TrailEntry]]:
        """All entries, oldest first, in pages."""
        number = 0
        while True:
            async with self._database.acquire("reading the trail") as connection:
                rows = await connection.fetch(self._sql["following"], number, PAGE)
            if not rows:
                return
            yield [TrailEntry(**dict(row.items())) for row in rows]
            number = rows[-1]["number"]
