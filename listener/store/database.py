"""One door to PostgreSQL: a pool in which no call waits without a limit.

What asyncpg leaves open is closed here. Waiting for a connection has a limit. A connection whose query
timed out or was cancelled is cut off at once, since giving it back politely would wait for a server that
may never answer. After a restart of the server, the first lost connection has all others renewed.
Library errors leave as ``Transient`` or ``Permanent``; errors of the caller's own pass through.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import asyncpg

from listener.errors import Misconfigured
from listener.store.connection import OwnConnection
from listener.store.trouble import (
    LIBRARY_ERRORS,
    LOST,
    MISCONFIGURED_CLASSES,
    lost_connection,
    not_sendable,
    translated,
)

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Connection = PoolConnectionProxy[asyncpg.Record]
else:
    Connection = asyncpg.pool.PoolConnectionProxy


class Database:
    """The pool; opens its connections when they are first needed."""

    def __init__(
        self,
        url: str,
        *,
        name: str = "unlost",
        connections: int = 8,
        timeout: float = 5.0,
        connect_timeout: float = 2.0,
    ) -> None:
        self._url = url
        self._name = name
        self._connections = connections
        self._connect_timeout = connect_timeout
        self._timeout = timeout
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None
        self._building = asyncio.Lock()
        self.claims_place: str | None = None
        """The incarnation of the claims table that this process last saw; claims in any other are refused."""

    async def open(self) -> str:
        """Connect once, and return the server's version. May be called again after ``Transient``."""
        try:
            async with asyncio.timeout(self._timeout):
                connection = await asyncpg.connect(
                    self._url, timeout=self._connect_timeout, command_timeout=self._timeout
                )
        except asyncpg.PostgresError as error:
            if (error.sqlstate or "")[:2] in MISCONFIGURED_CLASSES:
                raise Misconfigured(f"DATABASE_URL: PostgreSQL at {self._where()} refuses: {error}") from None
            raise translated(error, f"connecting to PostgreSQL at {self._where()}") from error
        except LOST as error:
            raise translated(error, f"connecting to PostgreSQL at {self._where()}") from error
        except ValueError as error:
            raise Misconfigured(f"DATABASE_URL is no address of a PostgreSQL database: {error}") from None
        try:
            return str(connection.get_settings().server_version)
        finally:
            connection.terminate()

    @contextlib.asynccontextmanager
    async def acquire(self, doing: str = "using PostgreSQL") -> AsyncIterator[Connection]:
        """Borrow a connection. ``doing`` goes into the message of whatever fails."""
        pool = self._pool or await self._pool_ready()
        try:
            connection = await pool.acquire(timeout=self._timeout)
        except LIBRARY_ERRORS as error:
            await self._react(error)
            raise translated(error, doing) from error
        try:
            yield connection
        except LIBRARY_ERRORS as error:
            if not isinstance(error, asyncpg.PostgresError) and not not_sendable(error):
                _cut_off(connection)
            await self._react(error)
            raise translated(error, doing) from error
        except asyncio.CancelledError:
            _cut_off(connection)
            raise
        finally:
            with contextlib.suppress(*LIBRARY_ERRORS):
                await pool.release(connection, timeout=self._connect_timeout)

    async def close(self) -> None:
        """Cut all connections. Whoever is done has given its connection back by now."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.terminate()

    async def _pool_ready(self) -> "asyncpg.Pool[asyncpg.Record]":
        async with self._building:
            if self._pool is None:
                self._pool = await asyncpg.create_pool(
                    self._url,
                    min_size=0,
                    max_size=self._connections,
                    timeout=self._connect_timeout,
                    command_timeout=self._timeout,
                    connection_class=OwnConnection,
                    server_settings={"application_name": self._name},
                )
            return self._pool

    async def _react(self, error: BaseException) -> None:
        if self._pool is not None and lost_connection(error):
            await self._pool.expire_connections()

    def _where(self) -> str:
        parts = urlsplit(self._url)
        return f"{parts.hostname}:{parts.port or 5432}{parts.path}"


def _cut_off(connection: Connection) -> None:
    """End a connection; one that the server ended meanwhile has been taken back by the pool already."""
    with contextlib.suppress(asyncpg.InterfaceError):
        connection.terminate()
