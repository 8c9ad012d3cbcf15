"""Cursors: up to where in a source everything is settled, one per source and group, never moving back.

A cursor is opaque but for one thing: digits at its end count. Of two with the same beginning the larger
stays, whichever listener wrote it last. Another beginning (the source has a new journal) replaces the old.
"""

import re
from decimal import Decimal

from listener.store.database import Database
from listener.store.statements import statements

_DIGITS = re.compile(r"[0-9]{1,100}$")


class Cursors:
    """The rows of ``cursors``."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = statements("listener.store", "cursors.sql")

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

    async def advance(self, source: str, group: str, cursor: str) -> None:
        """Move the group's cursor forward; what would move it back is ignored."""
        async with self._database.acquire("moving the cursor") as connection:
            await connection.execute(self._sql["advance"], source, group, cursor, ordinal_of(cursor))


def ordinal_of(cursor: str) -> Decimal | None:
    """The number at the end of a cursor."""
    digits = _DIGITS.search(cursor)
    return Decimal(digits.group()) if digits else None
