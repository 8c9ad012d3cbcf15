"""One door to PostgreSQL, at which no call waits without a limit.

Waiting for a connection has a limit. A connection whose query
timed out or was cancelled is cut off at once, since giving it back politely would wait for a server that
may never answer. After a restart of the server, the first lost connection has all others renewed.
Library errors leave as ``Transient`` or ``Permanent``; errors of the caller's own pass through.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import asyncpg

from listener.errors import Misconfigured
from listener.store.connection import OwnConnection
from listener.store.lender import Lender
from listener.store.trouble import (
    LIBRARY_ERRORS,
    LOST,
    MISCONFIGURED_CLASSES,
    lost_connection,
    not_sendable,
    translated,
)

Connection = OwnConnection


class Database:
    """Connections to one PostgreSQL, opened when they are first needed; so many of them are then kept."""

    def __init__(
        self,
        url: str,
        *,
        name: str = "unlost",
        connections: int = 8,
        kept_open: int = 0,
        timeout: float = 5.0,
        connect_timeout: float = 2.0,
    ) -> None:
        self._url = url
        self._name = name
        self._connect_timeout = connect_timeout
        self._timeout = timeout
        self._lender = Lender(
            self._connect, most=connections, few=kept_open, timeout=timeout, reset_timeout=connect_timeout
        )
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
        try:
            connection = await self._lender.lend()
        except LIBRARY_ERRORS as error:
            self._react(error)
            raise translated(error, doing) from error
        try:
            yield connection
        except LIBRARY_ERRORS as error:
            if not isinstance(error, asyncpg.PostgresError) and not not_sendable(error):
                _cut_off(connection)
            self._react(error)
            raise translated(error, doing) from error
        except asyncio.CancelledError:
            _cut_off(connection)
            raise
        finally:
            with contextlib.suppress(*LIBRARY_ERRORS):
                await self._lender.take_back(connection)

    async def close(self) -> None:
        """Cut all connections. Whoever is done has given its connection back by now."""
        self._lender.end_all()

    async def _connect(self) -> OwnConnection:
        return await asyncpg.connect(
            self._url,
            timeout=self._connect_timeout,
            command_timeout=self._timeout,
            connection_class=OwnConnection,
            server_settings={"application_name": self._name},
        )

    def _react(self, error: BaseException) -> None:
        if lost_connection(error):
            self._lender.expire()

    def _where(self) -> str:
        parts = urlsplit(self._url)
        return f"{parts.hostname}:{parts.port or 5432}{parts.path}"


def _cut_off(connection: Connection) -> None:
    if not connection.is_closed():
        connection.terminate()
