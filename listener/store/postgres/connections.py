"""The interface to connections: a pool, and the transaction that a row and a handler share.

It has two implementations: ``pool.py`` beside this file, by asyncpg's documented interface, and ``listener/fast``,
which costs less.

A savepoint proves that we commit the transaction in which the row was inserted, and not one that a handler began. It is
set when the transaction begins, and released before the commit, which fails without it.
"""

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

import asyncpg

from unlost.listener.core.errors import Transient, Unrepeatable

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]
else:
    Connection = asyncpg.Connection

PROOF = f"unlost_{secrets.token_hex(6)}"
"""The savepoint's name. A handler that rolled back to it would undo the row, so no handler may know it."""
NOT_OURS = (asyncpg.InvalidSavepointSpecificationError, asyncpg.NoActiveSQLTransactionError)
"""PostgreSQL's errors if the savepoint is not part of the current transaction, or there is no transaction."""
FREE_SECONDS = 300.0
"""How long a connection may stay open unused."""


class TransactionLeft(Unrepeatable):
    """A handler ended its transaction. Its commits stand, and a retry would repeat them, so there is none."""

    def __init__(self) -> None:
        super().__init__(
            "the handler ended the transaction that it was given (COMMIT, ROLLBACK); what it wrote outside of it may "
            "stand, and is not undone. Commit nothing by hand; wrap parts in connection.transaction()"
        )


class HandlerContinued(Transient):
    """A handler continued although its transaction, or its connection, had ended."""


def closed_under_handler() -> HandlerContinued:
    """Return the error if there is no connection any more to commit on."""
    return HandlerContinued("the connection was closed or lost while the handler had it, and the handler went on")


def failed_under_handler() -> HandlerContinued:
    """Return the error if a statement failed and the handler swallowed that."""
    return HandlerContinued(
        "the handler went on after an error that had ended its transaction; "
        "let it pass, or wrap what may fail in connection.transaction()"
    )


def is_closed(connection: Connection) -> bool:
    """Return whether it is closed. asyncpg's pool takes a connection back once a handler closes it."""
    try:
        return connection.is_closed()
    except asyncpg.InterfaceError:
        return True


class ConnectionProxy:
    """The connection that a handler gets: it works like the real one until the handler has ended."""

    __slots__ = ("_connection",)

    def __init__(self, connection: Connection) -> None:
        self._connection: Connection | None = connection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real(name), name)

    def is_closed(self) -> bool:
        """See ``asyncpg.Connection``."""
        return is_closed(self._real("is_closed"))

    async def reset(self, *, timeout: float | None = None) -> NoReturn:
        """Refuse: it would end the transaction, and everything after it would be committed separately."""
        del timeout
        raise asyncpg.InterfaceError("reset() cannot be used: it would end the transaction that the handler was given")

    def detach(self) -> None:
        """Stop working."""
        self._connection = None

    def _real(self, name: str) -> Connection:
        if self._connection is None:
            raise asyncpg.InterfaceError(f"{name} cannot be used: the handler that was given this connection has ended")
        return self._connection


class HandlerTransaction(Protocol):
    """A transaction in which a row is stored and a handler works."""

    async def abandon(self) -> None:
        """Roll back before any handler has worked in it."""
        ...

    def proxy(self) -> ConnectionProxy:
        """Let a handler use the connection, until ``detach`` of the proxy."""
        ...

    async def commit(self, *, begin_next: bool) -> bool:
        """Commit a handler's work; ``HandlerContinued`` or ``TransactionLeft`` if there is nothing to commit.

        ``begin_next``: another transaction follows at once. Return whether it has begun on this connection, which the
        caller then keeps.
        """
        ...

    async def undo(self) -> None:
        """Roll back the work of a handler that failed; ``TransactionLeft`` if the handler ended the transaction."""
        ...


class Connections(Protocol):
    """A pool of connections to one PostgreSQL."""

    async def acquire(self) -> Connection:
        """Acquire a connection within the time limit. Raises ``TimeoutError``, or what opening a connection raises."""
        ...

    def acquire_free(self) -> Connection | None:
        """Return a connection that is free now, if the pool knows one."""
        ...

    def release_if_clean(self, connection: Connection) -> bool:
        """Release a connection if nothing must be done on it first; return whether that is so."""
        ...

    async def release(self, connection: Connection) -> None:
        """Release a connection: reset it if needed, or close it if it is unusable."""
        ...

    def may_use(self, connection: Connection) -> bool:
        """Return whether this kept connection may be used once more."""
        ...

    async def begin(self, connection: Connection, longest_idle: int) -> HandlerTransaction:
        """Return a transaction for a handler: the one that the last commit began, or a new one.

        PostgreSQL ends it after ``longest_idle`` idle milliseconds.
        """
        ...

    async def end_begun(self, connection: Connection) -> None:
        """End the transaction that the last commit began: it is not needed."""
        ...

    async def expire(self) -> None:
        """Never hand out again the connections that are open now: the server has gone away."""
        ...

    async def close(self) -> None:
        """Cut all connections, also those in use."""
        ...


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """How many connections a pool may have, and how long its steps may take."""

    max_size: int
    kept_open: int
    timeout: float
    reset_timeout: float


@dataclass(frozen=True, slots=True)
class ConnectionKind:
    """How connections are made and kept."""

    connection_class: type[Connection]
    make_pool: Callable[[Callable[[], Awaitable[Connection]], PoolLimits], Connections]


def limit_idling(longest_idle: int) -> str:
    """Return the statements that begin a transaction's protection: its longest idle time, and its proof."""
    return f"SET LOCAL idle_in_transaction_session_timeout = {longest_idle:d}; SAVEPOINT {PROOF};"
