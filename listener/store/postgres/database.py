"""The only way to PostgreSQL. No call waits without a limit.

Waiting for a connection has a limit. A connection whose query timed out or was cancelled is cut off at once: a polite
release would wait for a server that may never answer. After a restart of the server, the first lost connection makes
the pool replace all others. Library errors leave as ``Transient`` or ``Permanent``. Errors of the caller's own pass
through.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from types import TracebackType

import asyncpg

from unlost.listener.core.errors import Misconfigured, Permanent, Transient, Unavailable
from unlost.listener.store.postgres.address import public_address, servers_of
from unlost.listener.store.postgres.connections import (
    Connection,
    ConnectionKind,
    Connections,
    HandlerTransaction,
    PoolLimits,
    is_closed,
)
from unlost.listener.store.postgres.errors import (
    LIBRARY_ERRORS,
    LOST,
    MISCONFIGURED_CLASSES,
    forgot_statements,
    lost_connection,
    most_telling,
    not_begun,
    not_sendable,
    translated,
)
from unlost.listener.store.postgres.pool import PLAIN
from unlost.listener.store.postgres.pooler import is_direct, keeps_statements
from unlost.listener.store.postgres.statements import DEFAULT_GROUP, schema_of, statements

STATEMENTS_KEPT = 100
"""Statements kept per connection, asyncpg's default. Our own are fewer; a handler's count too."""
MakeReady = Callable[[Connection], Awaitable[None]]
"""Prepares a new connection before anybody waits for it, to save time at its first use."""
NO_ADDRESS = "DATABASE_URL is no address of a PostgreSQL database"


class Database:
    """Connections to one PostgreSQL, opened when first needed; ``kept_open`` of them stay open.

    If the address names several servers, all connections go to one of them; to another once it no longer answers.
    Queries use the schema of one group.
    """

    def __init__(
        self,
        url: str,
        *,
        group: str = DEFAULT_GROUP,
        name: str = "unlost",
        connections: int = 8,
        kept_open: int = 0,
        make_ready: MakeReady | None = None,
        timeout: float = 5.0,
        connect_timeout: float = 2.0,
        kind: ConnectionKind = PLAIN,
    ) -> None:
        self.group = group
        self.schema = schema_of(group)
        self._url = url
        self._answered = ""
        self._where = public_address(url)
        self._name = name
        self._connect_timeout = connect_timeout
        self._timeout = timeout
        self._make_ready = make_ready
        self._connection_class = kind.connection_class
        self._pool = kind.make_pool(self._connect, PoolLimits(connections, kept_open, timeout, connect_timeout))
        self._keeps_statements: bool | None = None
        """Whether statements stay prepared; None: not asked yet."""
        self._asking = asyncio.Lock()
        self._given_up = False
        self.claims_place: str | None = None
        """The incarnation of the claims table that this process saw last. Claims in any other are refused."""

    def statements(self, package: str, file: str) -> dict[str, str]:
        """Return the statements of a file, for the group's schema."""
        return statements(package, file, self.schema)

    async def open(self) -> str:
        """Connect once, and return the server's version. May be called again after ``Transient``."""
        try:
            connection = await self.connect_alone()
        except asyncpg.PostgresError as error:
            if (error.sqlstate or "")[:2] in MISCONFIGURED_CLASSES:
                raise Misconfigured(f"DATABASE_URL: PostgreSQL at {self._where} refuses: {error}") from None
            raise translated(error, f"connecting to PostgreSQL at {self._where}") from error
        except LOST as error:
            raise translated(error, f"connecting to PostgreSQL at {self._where}") from error
        except ValueError as error:
            raise Misconfigured(f"{NO_ADDRESS}: {error}") from None
        try:
            return str(connection.get_settings().server_version)
        finally:
            connection.terminate()

    def acquire(self, doing: str = "using PostgreSQL") -> "Borrowed":
        """Acquire a connection, with ``async with``. ``doing`` is part of the message of any failure."""
        if self._given_up:
            raise Unavailable(f"{doing}: PostgreSQL does not answer")
        return Borrowed(self._pool, doing, self._react)

    async def still_answers(self, within: float) -> bool:
        """Return whether PostgreSQL answers within this time. If not, all later calls fail at once.

        For the end of a process that has waited for it long enough.
        """
        with contextlib.suppress(Transient, Permanent, TimeoutError):
            async with asyncio.timeout(within), self.acquire("looking whether PostgreSQL answers") as connection:
                await connection.execute("SELECT 1")
                return True
        self._given_up = True
        return False

    async def expire(self) -> None:
        """Never hand out again the connections that are open now."""
        await self._pool.expire()

    async def close(self) -> None:
        """Cut all connections. Callers that finished have released theirs by now."""
        await self._pool.close()

    async def _react(self, error: BaseException) -> None:
        if forgot_statements(error):
            self._keeps_statements = False  # a pooler that was not noticed, or was added later
        if lost_connection(error):
            await self._pool.expire()

    async def _connect(self) -> Connection:
        connection = await self.connect_alone()
        if self._make_ready is not None:
            try:
                await self._make_ready(connection)
            except BaseException:
                connection.terminate()
                raise
        return connection

    async def connect_alone(self) -> Connection:
        """Open a connection that the caller closes: to the server that answered last, or else the first that answers.

        Each server has a time limit of its own. Errors of the library are raised as they are. Behind a pooler that
        forgets prepared statements, none are kept.
        """
        if self._keeps_statements is None:
            async with self._asking:
                if self._keeps_statements is None:
                    return await self._first_connection()
        return await self._any_connection()

    async def _first_connection(self) -> Connection:
        """Open a connection and find out whether it leads to the server itself."""
        connection = await self._any_connection()
        try:
            direct = await is_direct(connection)
        except BaseException:
            connection.terminate()
            raise
        if direct:
            self._keeps_statements = True
            return connection
        connection.terminate()
        self._keeps_statements = False
        self._keeps_statements = await keeps_statements(self._any_connection)
        return await self._any_connection()

    async def _any_connection(self) -> Connection:
        failed: dict[str, BaseException] = {}
        for url in sorted(servers_of(self._url), key=lambda url: url != self._answered):
            try:
                connection = await self._connect_to(url)
            except LIBRARY_ERRORS as error:
                failed[public_address(url)] = error
            else:
                self._answered = url
                return connection
        raise most_telling(failed)

    async def _connect_to(self, url: str) -> Connection:
        return await asyncpg.connect(
            url,
            timeout=self._connect_timeout,
            command_timeout=self._timeout,
            connection_class=self._connection_class,
            statement_cache_size=0 if self._keeps_statements is False else STATEMENTS_KEPT,
            server_settings={"application_name": self._name},
        )


class Borrowed:
    """An acquired connection, as an async context manager.

    A class, since it is entered once or twice for each event that comes alone. A connection that was kept on leaving
    can be entered again, as long as it ``is_usable``; otherwise it must be given back.
    """

    __slots__ = ("_cancels", "_connection", "_doing", "_kept", "_pool", "_react")

    def __init__(self, pool: Connections, doing: str, react: Callable[[BaseException], Awaitable[None]]) -> None:
        self._pool = pool
        self._react = react
        self._doing = doing
        self._kept = False
        self._cancels = 0
        self._connection: Connection

    async def begin(self, longest_idle: int) -> HandlerTransaction:
        """Return a transaction for a handler, which PostgreSQL ends after ``longest_idle`` idle milliseconds."""
        return await self._pool.begin(self._connection, longest_idle)

    def keep(self) -> None:
        """Keep the connection after leaving, if no error occurs."""
        self._kept = True

    @property
    def is_usable(self) -> bool:
        """Whether nothing is known that would make a statement fail."""
        return self._pool.may_use(self._connection)

    async def give_back(self) -> None:
        """End the kept transaction and release the connection."""
        with contextlib.suppress(Transient):  # it is cut off; nothing was done on it
            async with self as connection:
                if not is_closed(connection):
                    await self._pool.end_begun(connection)

    async def __aenter__(self) -> Connection:
        self._cancels = _cancels()
        if self._kept:
            self._kept = False
            return self._connection
        free = self._pool.acquire_free()
        if free is not None:
            self._connection = free
            return free
        try:
            self._connection = await self._pool.acquire()
        except LIBRARY_ERRORS as error:
            await self._react(error)
            raise self._cancelled() or not_begun(error, self._doing) from error
        except ValueError as error:
            raise Misconfigured(f"{NO_ADDRESS}: {error}") from None
        return self._connection

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None and (self._kept or self._pool.release_if_clean(self._connection)):
            return
        if isinstance(error, asyncio.CancelledError):  # its query may still run, on a server that may never answer
            _cut_off(self._connection)
        elif isinstance(error, LIBRARY_ERRORS):
            if not isinstance(error, asyncpg.PostgresError) and not not_sendable(error):
                _cut_off(self._connection)
            await self._react(error)
        with contextlib.suppress(*LIBRARY_ERRORS):
            await self._pool.release(self._connection)
        if isinstance(error, LIBRARY_ERRORS):
            raise self._cancelled() or translated(error, self._doing) from error

    def _cancelled(self) -> asyncio.CancelledError | None:
        """The cancellation of this task in the meantime. A rollback that failed after it has taken its place."""
        return asyncio.CancelledError() if _cancels() > self._cancels else None


def _cancels() -> int:
    """How often this task was asked to end."""
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()


def _cut_off(connection: Connection) -> None:
    if not is_closed(connection):
        connection.terminate()
