"""Cursors: up to where everything is settled, one for each source and group. They move back only by a reset.

A cursor is opaque except for its stem and the number in it (``listener/core/cursor.py``). If two cursors have the same
stem, the further one stays, whichever listener wrote last. Another stem replaces the old one, unless both name journals
of ours. Then the listener that learned of the other journal in its handshake resets the cursor.
"""

from collections.abc import Mapping, Sequence

from unlost.listener.core.cursor import OURS, ordinal_of, parse_cursor, stem_of
from unlost.listener.core.store_mark import StoreMark
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.database_name import name_of_database


class PostgresCursors:
    """The rows of ``cursors``."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = database.statements("unlost.listener.store.postgres", "cursors.sql")

    async def database(self) -> str:
        """Return a short name of the database in which the rows are."""
        async with self._database.acquire("asking which database this is") as connection:
            return await name_of_database(connection)

    async def start(self, source: str, group: str, cursor: str) -> str:
        """Record where the group starts, if no cursor is recorded yet; return the recorded cursor."""
        async with self._database.acquire("recording where the group starts") as connection:
            await connection.execute(self._sql["start"], source, group, cursor, ordinal_of(cursor))
            recorded: str = await connection.fetchval(self._sql["read"], source, group)
        return recorded

    async def read(self, source: str, group: str) -> str | None:
        """Return the group's cursor."""
        async with self._database.acquire("reading the cursor") as connection:
            cursor: str | None = await connection.fetchval(self._sql["read"], source, group)
        return cursor

    async def read_all(self, sources: Sequence[str], group: str) -> Mapping[str, str]:
        """Return the group's cursors of these sources, as far as there are any."""
        async with self._database.acquire("reading the cursors") as connection:
            rows = await connection.fetch(self._sql["read_all"], sources, group)
        return {row["source"]: row["cursor"] for row in rows}

    async def advance(self, source: str, group: str, cursor: str, store: StoreMark | None = None) -> str | None:
        """Move the group's cursor forward and return it. An older cursor is ignored.

        If PostgreSQL is no longer ``store``, or went back since, nothing moves and None is returned.
        """
        mark = (None, None, None) if store is None else (store.generation, store.version, store.incarnation)
        values = (
            source,
            group,
            cursor,
            ordinal_of(cursor),
            stem_of(cursor),
            parse_cursor(cursor) is not None,
            f"^{OURS}$",
        )
        async with self._database.acquire("moving the cursor") as connection:
            moved: str | None = await connection.fetchval(self._sql["advance"], *values, *mark)
            if moved is not None:
                return moved
            row = await connection.fetchrow(self._sql["read_in"], source, group, *mark)
        if row is None or not row["same_store"]:
            return None
        return str(row["cursor"] or cursor)

    async def reset(self, source: str, group: str, old: str, new: str) -> str:
        """Set the group's cursor from ``old`` to ``new``, even backwards; return the cursor recorded then."""
        async with self._database.acquire("resetting the cursor") as connection:
            await connection.execute(self._sql["reset"], source, group, old, new, ordinal_of(new))
            stored: str | None = await connection.fetchval(self._sql["read"], source, group)
        return new if stored is None else stored
