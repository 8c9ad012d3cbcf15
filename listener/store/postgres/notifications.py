"""Notifications of people, in the table ``notifications``. The primary key decides that it happens once."""

from collections.abc import Sequence

import msgspec

from unlost.listener.core.notification import Notification
from unlost.listener.store.postgres.database import Database


class PostgresNotifications:
    """``Notifications`` in PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = database.statements("unlost.listener.store.postgres", "notifications.sql")

    async def enter(self, targets: Sequence[str]) -> None:
        """See ``Notifications``."""
        async with self._database.acquire("looking for what to notify of") as connection:
            await connection.execute(self._sql["since"])
            await connection.execute(self._sql["enter"], list(targets))
            await connection.execute(self._sql["prune"])

    async def take(self, targets: Sequence[str], most: int, lease: float) -> list[Notification]:
        """See ``Notifications``."""
        async with self._database.acquire("taking notifications") as connection:
            rows = await connection.fetch(self._sql["take"], list(targets), most, lease)
        return [Notification(row[0], row[1], row[2], msgspec.json.decode(row[3]), row[4], row[5]) for row in rows]

    async def ended(self, one: Notification, outcome: str) -> None:
        """See ``Notifications``."""
        async with self._database.acquire("recording a notification") as connection:
            await connection.execute(self._sql["ended"], one.key, one.target, outcome)

    async def again(self, one: Notification, after: float) -> None:
        """See ``Notifications``."""
        async with self._database.acquire("putting a notification off") as connection:
            await connection.execute(self._sql["again"], one.key, one.target, after)
