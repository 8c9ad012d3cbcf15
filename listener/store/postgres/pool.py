"""asyncpg's pool and transactions, by their documented interface."""

from collections.abc import Awaitable, Callable
from typing import Any, cast

import asyncpg

from unlost.listener.store.postgres.connections import (
    FREE_SECONDS,
    NOT_OURS,
    PROOF,
    Connection,
    ConnectionKind,
    ConnectionProxy,
    PoolLimits,
    TransactionLeft,
    closed_under_handler,
    failed_under_handler,
    is_closed,
    limit_idling,
)


class PlainPool:
    """Connections by ``asyncpg.create_pool``. Each is reset in full when it is released."""

    def __init__(self, connect: Callable[[], Awaitable[Connection]], limits: PoolLimits) -> None:
        self._connect = connect
        self._limits = limits
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None

    async def acquire(self) -> Connection:
        """See ``Connections``, as for the other methods."""
        if self._pool is None:
            self._pool = asyncpg.create_pool(
                connect=self._open,
                min_size=0,  # so creating it opens nothing, and cannot fail
                max_size=self._limits.max_size,
                max_inactive_connection_lifetime=FREE_SECONDS,
            )
            await self._pool
        # asyncpg hands out proxies that work like connections.
        return cast("Connection", await self._pool.acquire(timeout=self._limits.timeout))

    def acquire_free(self) -> Connection | None:
        """asyncpg's pool does not say whether one is free."""
        return None

    def release_if_clean(self, connection: Connection) -> bool:
        """asyncpg's pool resets each connection."""
        del connection
        return False

    async def release(self, connection: Connection) -> None:
        """See ``Connections``."""
        if self._pool is not None:
            await self._pool.release(cast("Any", connection), timeout=self._limits.reset_timeout)

    def may_use(self, connection: Connection) -> bool:
        """None is kept."""
        del connection
        return False

    async def begin(self, connection: Connection, longest_idle: int) -> "PlainTransaction":
        """See ``Connections``."""
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute(limit_idling(longest_idle))
        return PlainTransaction(connection, transaction)

    async def end_begun(self, connection: Connection) -> None:
        """No commit begins another transaction."""

    async def expire(self) -> None:
        """See ``Connections``."""
        if self._pool is not None:
            await self._pool.expire_connections()

    async def close(self) -> None:
        """See ``Connections``."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.terminate()

    async def _open(self, *_: object, **__: object) -> Connection:
        return await self._connect()


class PlainTransaction:
    """``HandlerTransaction``, begun and ended by itself."""

    def __init__(self, connection: Connection, transaction: asyncpg.transaction.Transaction) -> None:
        self._connection = connection
        self._transaction = transaction

    async def abandon(self) -> None:
        """See ``HandlerTransaction``, as for the other methods."""
        await self._transaction.rollback()

    def proxy(self) -> ConnectionProxy:
        """See ``HandlerTransaction``."""
        return ConnectionProxy(self._connection)

    async def commit(self, *, begin_next: bool) -> bool:
        """See ``HandlerTransaction``. Another one is begun by itself."""
        del begin_next
        if is_closed(self._connection):
            raise closed_under_handler()
        try:
            await self._connection.execute(f"RELEASE SAVEPOINT {PROOF}")
        except NOT_OURS:
            raise self._left() from None
        except asyncpg.InFailedSQLTransactionError as error:
            await self.undo()
            raise failed_under_handler() from error
        await self._transaction.commit()
        return False

    async def undo(self) -> None:
        """See ``HandlerTransaction``."""
        if is_closed(self._connection):
            return
        try:
            await self._connection.execute(f"ROLLBACK TO SAVEPOINT {PROOF}")
        except NOT_OURS:
            raise self._left() from None
        await self._transaction.rollback()

    def _left(self) -> TransactionLeft:
        self._connection.terminate()
        return TransactionLeft()


PLAIN = ConnectionKind(asyncpg.Connection, PlainPool)
