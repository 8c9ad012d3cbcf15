"""A connection that knows whether it must be reset before its next use.

Our own statements leave nothing behind in a session, so nothing is sent between them. A handler may leave anything:
settings, advisory locks, listening. After a handler's use a connection is reset in full; if the transaction commits, in
the same message as the commit. If anything fails before that, it is reset when it is released. If another transaction
follows at once, the message that commits also begins it.
"""

import asyncpg
from asyncpg.transaction import Transaction, TransactionState

from unlost.listener.fast.transport import SharedTransport
from unlost.listener.store.postgres.connections import (
    NOT_OURS,
    PROOF,
    ConnectionProxy,
    TransactionLeft,
    closed_under_handler,
    failed_under_handler,
    limit_idling,
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


class OwnConnection(SharedTransport):
    """A connection that tracks whether it is clean."""

    generation = 0
    """The generation of the pool in which it was opened."""
    free_since = 0.0
    """When it was last released."""
    _given_out = False
    _begun: Begun | None = None

    @property
    def is_clean(self) -> bool:
        """Whether the last user left nothing behind."""
        return not self._given_out and not self.is_in_transaction()

    async def begin(self, longest_idle: int) -> "OwnTransaction":
        """Return a transaction: the one that the last commit began, or a new one. See ``Connections``.

        The longest idle time is set in the message that begins, for this transaction only.
        """
        begun, self._begun = self._begun, None
        if begun is None:
            await self.execute(_beginning(longest_idle))
            begun = Begun(self)
        return OwnTransaction(self, begun, longest_idle)

    async def end_begun(self) -> None:
        """End the transaction that the last commit began: it is not needed."""
        begun, self._begun = self._begun, None
        if begun is not None:
            await begun.rollback()

    def proxy(self) -> ConnectionProxy:
        """Let a handler use it, until ``detach`` of the proxy."""
        self._given_out = True
        return ConnectionProxy(self)

    async def commit_and_reset(self, transaction: Begun, begin_next: int | None) -> None:
        """Commit a handler's work and reset the connection.

        ``begin_next``: also begin another transaction, which may idle for that time; ``begin`` returns it. PostgreSQL
        answers the commit of a failed transaction with a rollback and no error.
        """
        if self.is_closed():
            raise closed_under_handler()
        following = self.get_reset_query()
        if begin_next is not None:
            # Reset in a transaction of its own: the next one must not roll it back, nor begin with this handler's
            # options.
            following = f"BEGIN; {following} COMMIT; {_beginning(begin_next)}"
        transaction.end(self)
        try:
            # The release fails if the handler ended our transaction and began another, which lacks the row.
            await self.execute(f"RELEASE SAVEPOINT {PROOF}; COMMIT; {following}")
        except NOT_OURS:
            raise self._left() from None
        except asyncpg.InFailedSQLTransactionError as error:
            await self.roll_back(transaction)
            raise failed_under_handler() from error
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
        return super().get_reset_query() if self._given_out else ""

    async def reset(self, *, timeout: float | None = None) -> None:
        """See ``asyncpg.Connection``."""
        self._begun = None
        await super().reset(timeout=timeout)
        self._become_clean()

    def _become_clean(self) -> None:
        if self._given_out:
            self._given_out = False
            self._on_release()  # type: ignore[attr-defined]  # ends statements a handler may have prepared


class OwnTransaction:
    """``HandlerTransaction`` on such a connection."""

    __slots__ = ("_begun", "_connection", "_longest_idle")

    def __init__(self, connection: OwnConnection, begun: Begun, longest_idle: int) -> None:
        self._connection = connection
        self._begun = begun
        self._longest_idle = longest_idle

    async def abandon(self) -> None:
        """See ``HandlerTransaction``, as for the other methods."""
        await self._begun.rollback()

    def proxy(self) -> ConnectionProxy:
        """See ``HandlerTransaction``."""
        return self._connection.proxy()

    async def commit(self, *, begin_next: bool) -> bool:
        """See ``HandlerTransaction``."""
        await self._connection.commit_and_reset(self._begun, self._longest_idle if begin_next else None)
        return begin_next

    async def undo(self) -> None:
        """See ``HandlerTransaction``."""
        await self._connection.roll_back(self._begun)


def _beginning(longest_idle: int) -> str:
    return f"BEGIN; {limit_idling(longest_idle)}"
