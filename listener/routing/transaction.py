"""The transaction that a route shares with the row of its event."""

from collections.abc import Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, cast

from unlost.listener.ports.rows import HandlerConnection

if TYPE_CHECKING:
    import asyncpg
    from asyncpg.cursor import CursorFactory


class Transaction:
    """Runs statements in the transaction that inserts the event's row: both are committed, or neither is.

    The methods are asyncpg's. There is none that commits or rolls back: the transaction is committed when the function
    returns, and rolled back when it raises. ``COMMIT`` as a statement fails the event for good. Once the function has
    ended, every method raises ``asyncpg.InterfaceError``.
    """

    __slots__ = ("_connection",)

    def __init__(self, connection: HandlerConnection) -> None:
        self._connection = cast("asyncpg.Connection[asyncpg.Record]", connection)

    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> str:
        """Run a statement; return its status, such as ``UPDATE 1``."""
        return await self._connection.execute(query, *args, timeout=timeout)

    async def executemany(self, query: str, args: Iterable[Sequence[Any]], *, timeout: float | None = None) -> None:
        """Run a statement once for each sequence of arguments."""
        await self._connection.executemany(query, args, timeout=timeout)

    async def fetch(self, query: str, *args: Any, timeout: float | None = None) -> "list[asyncpg.Record]":
        """Return all rows of a query."""
        return await self._connection.fetch(query, *args, timeout=timeout)

    async def fetchrow(self, query: str, *args: Any, timeout: float | None = None) -> "asyncpg.Record | None":
        """Return the first row of a query, or None."""
        return await self._connection.fetchrow(query, *args, timeout=timeout)

    async def fetchval(self, query: str, *args: Any, column: int = 0, timeout: float | None = None) -> Any:
        """Return one value of the first row of a query, or None."""
        return await self._connection.fetchval(query, *args, column=column, timeout=timeout)

    def cursor(
        self, query: str, *args: Any, prefetch: int | None = None, timeout: float | None = None
    ) -> "CursorFactory[asyncpg.Record]":
        """Return the rows of a query one after another: ``async for row in tx.cursor(...)``."""
        return self._connection.cursor(query, *args, prefetch=prefetch, timeout=timeout)

    def savepoint(self) -> AbstractAsyncContextManager[Any]:
        """Undo only what happens within, if it raises: ``async with tx.savepoint(): ...``."""
        return self._connection.transaction()
