"""Counts what is left of a subject in the tables of a group."""

from collections.abc import Mapping

from unlost.listener.store.postgres.database import Database

SLOW_SECONDS = 600.0
"""All rows are read: no index holds what is encoded."""


class Remains:
    """Reads the tables of a group."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = database.statements("unlost.listener.store.postgres", "remains.sql")

    async def encoded(self, mark: bytes, place: str) -> Mapping[str, int]:
        """Count the coded contents of a subject, by kind. ``mark``: the text that each of them has."""
        async with self._database.acquire("counting what is left of a subject") as connection:
            row = await connection.fetchrow(self._sql["remains"], mark, place, timeout=SLOW_SECONDS)
        return {} if row is None else dict(row.items())

    async def plain(self, path: str, subject: str) -> int:
        """Return how many rows hold the subject at this path in plain text."""
        root, *names = path.split(".")
        in_payload = root == "payload"
        async with self._database.acquire("counting plain rows of a subject") as connection:
            count: int = await connection.fetchval(
                self._sql["plain"], in_payload, names if in_payload else [root, *names], subject, timeout=SLOW_SECONDS
            )
        return count
