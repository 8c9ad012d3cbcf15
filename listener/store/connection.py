"""A connection that knows whether it must be reset before somebody else uses it.

Our own statements leave nothing behind in a session, so between them nothing is sent. A handler may leave anything:
settings, advisory locks, listening. What was lent to one is reset in full, and where the handler's transaction
commits, in the same message as the commit. Whatever fails on the way leaves it to be reset when it is given back.
"""

from typing import TYPE_CHECKING, Any

import asyncpg
from asyncpg.transaction import Transaction

if TYPE_CHECKING:
    Plain = asyncpg.Connection[asyncpg.Record]
else:
    Plain = asyncpg.Connection

COMMIT = "COMMIT;"
"""What asyncpg sends at the end of an outer transaction; were it anything else, the reset would go by itself."""


class OwnConnection(Plain):
    """One connection of our pool."""

    _lent = False
    _ending = False

    def lend(self) -> "OwnConnection":
        """From now on it is used by code that is not ours. Returned is what lies behind the pool's proxy."""
        self._lent = True
        return self

    async def commit_and_reset(self, transaction: Transaction) -> None:
        """Commit what a handler did, and take the connection back."""
        self._ending = True
        try:
            await transaction.commit()
        finally:
            self._ending = False

    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> str:
        """See ``asyncpg.Connection``."""
        if not (self._ending and self._lent and query == COMMIT):
            return await super().execute(query, *args, timeout=timeout)
        status = await super().execute(f"{query} {self.get_reset_query()}", timeout=timeout)
        self._lent = False
        return status

    def get_reset_query(self) -> str:
        """What asyncpg's pool sends when the connection is given back."""
        return super().get_reset_query() if self._lent else ""

    async def reset(self, *, timeout: float | None = None) -> None:
        """See ``asyncpg.Connection``."""
        await super().reset(timeout=timeout)
        self._lent = False
