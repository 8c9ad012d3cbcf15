"""Cursors: up to where in a source everything is settled, one per source and group, never moving back but by a reset.

A cursor is opaque but for its stem and what counts in it (``listener/core/cursor.py``). Of two with the same stem the
further one stays, whichever listener wrote it last. Another stem replaces the old, unless both name journals of ours:
then the listener that learned of the other journal in its handshake resets the cursor.
"""

from unlost.listener.core.cursor import OURS, ordinal_of, place_of, stem_of
from unlost.listener.core.store_mark import StoreMark
from unlost.listener.store.postgres.database import Database


class PostgresCursors:
    """The rows of ``cursors``."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = database.statements("unlost.listener.store.postgres", "cursors.sql")

    async def start(self, source: str, group: str, cursor: str) -> str:
        """Record where the group starts, if nobody has; return the group's cursor, whoever recorded it."""
        async with self._database.acquire("recording where the group starts") as connection:
            await connection.execute(self._sql["start"], source, group, cursor, ordinal_of(cursor))
            recorded: str = await connection.fetchval(self._sql["read"], source, group)
        return recorded

    async def read(self, source: str, group: str) -> str | None:
        """The group's cursor."""
        async with self._database.acquire("reading the cursor") as connection:
            cursor: str | None = await connection.fetchval(self._sql["read"], source, group)
        return cursor

    async def advance(self, source: str, group: str, cursor: str, store: StoreMark | None = None) -> str | None:
        """Move the group's cursor forward, and return it; what would move it back is ignored.

        None, and nothing is moved, where PostgreSQL is not ``store`` any more, or has gone back since.
        """
        mark = (None, None, None) if store is None else (store.generation, store.version, store.incarnation)
        values = source, group, cursor, ordinal_of(cursor), stem_of(cursor), place_of(cursor) is not None, f"^{OURS}$"
        async with self._database.acquire("moving the cursor") as connection:
            moved: str | None = await connection.fetchval(self._sql["advance"], *values, *mark)
            if moved is not None:
                return moved
            row = await connection.fetchrow(self._sql["read_in"], source, group, *mark)
        if row is None or not row["same_store"]:
            return None
        return str(row["cursor"] or cursor)

    async def reset(self, source: str, group: str, old: str, new: str) -> str:
        """Set the group's cursor from ``old`` to ``new``, back even; return it, whoever has moved it."""
        async with self._database.acquire("resetting the cursor") as connection:
            await connection.execute(self._sql["reset"], source, group, old, new, ordinal_of(new))
            stored: str | None = await connection.fetchval(self._sql["read"], source, group)
        return new if stored is None else stored
