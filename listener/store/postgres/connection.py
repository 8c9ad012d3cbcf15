"""A connection that knows whether it must be reset before its next use, and the proxy that a handler gets.

Our own statements leave nothing behind in a session, so nothing is sent between them. A handler may leave anything:
settings, advisory locks, listening. After a handler's use a connection is reset in full; if the transaction commits, in
the same message as the commit. If anything fails before that, it is reset when it is released. A handler's proxy stops
working once the handler has ended. If another transaction follows at once, the message that commits also begins it.

A savepoint proves that we commit the transaction in which the row was inserted, and not one that a handler began. The
message that begins sets it, and the message that commits releases it, which fails without it.
"""

import secrets
from typing import TYPE_CHECKING, Any, NoReturn

import asyncpg
from asyncpg.transaction import Transaction, TransactionState

from unlost.listener.core.errors import Permanent, Transient

if TYPE_CHECKING:
    Plain = asyncpg.Connection[asyncpg.Record]
else:
    Plain = asyncpg.Connection

PROOF = f"unlost_{secrets.token_hex(6)}"
"""The savepoint's name. A handler that rolled back to it would undo the row, so no handler may know it."""
NOT_OURS = (asyncpg.InvalidSavepointSpecificationError, asyncpg.NoActiveSQLTransactionError)
"""PostgreSQL's errors if the savepoint is not part of the current transaction, or there is no transaction."""


class TransactionLeft(Permanent):
    """A handler ended its transaction. Its commits stand, and a retry would repeat them, so there is none."""

    def __init__(self) -> None:
        super().__init__(
            "the handler ended the transaction that it was given (COMMIT, ROLLBACK); what it wrote outside of it may "
            "stand, and is not undone. Commit nothing by hand; wrap parts in connection.transaction()"
        )


class Begun(Transaction):
    """A transaction that we begin ourselves, in one message with other statements, and also end ourselves.

    For asyncpg it is what ``connection.transaction()`` would have started: a handler's own are savepoints in it.
    """

    def __init__(self, connection: "OwnConnection") -> None:
        super().__init__(connection, None, False, False)
        self._state = TransactionState.STARTED
        connection._top_xact = self  # type: ignore[attr-defined]  # noqa: SLF001  as its start would do

    def end(self, connection: "OwnConnection") -> None:
        """Record that it is being committed."""
        self._state = TransactionState.COMMITTED
        connection._top_xact = None  # type: ignore[attr-defined]  # noqa: SLF001


class ConnectionProxy:
    """The connection that a handler gets: it works like the real one until the handler has ended."""

    __slots__ = ("_connection",)

    def __init__(self, connection: "OwnConnection") -> None:
        self._connection: OwnConnection | None = connection

    def __getattr__(self, name: str) -> Any:
        if self._connection is None:
            raise asyncpg.InterfaceError(f"{name} cannot be used: the handler that was given this connection has ended")
        return getattr(self._connection, name)

    async def reset(self, *, timeout: float | None = None) -> NoReturn:
        """Refuse: it would end the transaction, and everything after it would be committed separately."""
        del timeout
        raise asyncpg.InterfaceError("reset() cannot be used: it would end the transaction that the handler was given")

    def detach(self) -> None:
        """Stop working."""
        self._connection = None


class OwnConnection(Plain):
    """A connection that tracks whether it is clean."""

    generation = 0
    """The generation of the pool in which it was opened."""
    free_since = 0.0
    """When it was last released."""
    _lent = False
    _begun: Begun | None = None

    def proxy(self) -> ConnectionProxy:
        """Let a handler use it, until ``detach`` of the proxy."""
        self._lent = True
        return ConnectionProxy(self)

    @property
    def is_clean(self) -> bool:
        """Whether the last user left nothing behind."""
        return not self._lent and not self.is_in_transaction()

    async def begin(self, longest_idle: int) -> Begun:
        """Return a transaction: the one that the last commit began, or a new one.

        PostgreSQL ends it after so many idle milliseconds. The limit is set in the message that begins, for this
        transaction only.
        """
        begun, self._begun = self._begun, None
        if begun is None:
            await self.execute(_beginning(longest_idle))
            begun = Begun(self)
        return begun

    async def end_begun(self) -> None:
        """End the transaction that the last commit began: it is not needed."""
        begun, self._begun = self._begun, None
        if begun is not None:
            await begun.rollback()

    async def commit_and_reset(self, transaction: Begun, *, begin_next: int | None = None) -> None:
        """Commit a handler's work and reset the connection; ``Transient`` if there is nothing to commit.

        ``begin_next``: also begin another transaction, which may idle for so long; ``begin`` returns it. PostgreSQL
        answers the commit of a failed transaction with a rollback and no error.
        """
        if self.is_closed():
            raise Transient("the connection was closed or lost while the handler had it, and the handler went on")
        following = self.get_reset_query()
        if begin_next is not None:
            # Reset in a transaction of its own: the next one must not roll it back, nor begin with this handler's
            # options.
            following = f"BEGIN; {following} COMMIT; {_beginning(begin_next)}"
        transaction.end(self)
        try:
            await self.execute(f"RELEASE SAVEPOINT {PROOF}; COMMIT; {following}")
        except NOT_OURS:
            raise self._left() from None
        except asyncpg.InFailedSQLTransactionError as error:
            await self.roll_back(transaction)
            raise Transient(
                "the handler went on after an error that had ended its transaction; "
                "let it pass, or wrap what may fail in connection.transaction()"
            ) from error
        self._become_clean()
        if begin_next is not None:
            self._begun = Begun(self)

    async def roll_back(self, transaction: Begun) -> None:
        """Undo the work of a handler that failed; ``TransactionLeft`` if the handler ended the transaction."""
        if self.is_closed():
            return
        transaction.end(self)
        try:
            await self.execute(f"ROLLBACK TO SAVEPOINT {PROOF}; ROLLBACK;")
        except NOT_OURS:
            raise self._left() from None

    def _left(self) -> TransactionLeft:
        """Close the connection, whose state is unknown, and return the error."""
        self.terminate()
        return TransactionLeft()

    def get_reset_query(self) -> str:
        """Return the statements that asyncpg sends to reset a session."""
        return super().get_reset_query() if self._lent else ""

    async def reset(self, *, timeout: float | None = None) -> None:
        """See ``asyncpg.Connection``."""
        self._begun = None
        await super().reset(timeout=timeout)
        self._become_clean()

    def _become_clean(self) -> None:
        if self._lent:
            self._lent = False
            self._on_release()  # type: ignore[attr-defined]  # ends statements a handler may have prepared


def _beginning(longest_idle: int) -> str:
    return f"BEGIN; SET LOCAL idle_in_transaction_session_timeout = {longest_idle:d}; SAVEPOINT {PROOF};"
