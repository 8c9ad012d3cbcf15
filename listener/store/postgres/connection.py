"""A connection that knows whether it must be reset before somebody else uses it, and how it is lent to a handler.

Our own statements leave nothing behind in a session, so between them nothing is sent. A handler may leave anything:
settings, advisory locks, listening. What was lent to one is reset in full, and where the handler's transaction
commits, in the same message as the commit. Whatever fails on the way leaves it to be reset when it is given back. What
a handler holds is good for nothing once its work has ended.

Where another transaction is to follow at once, that message begins it too.

That what is committed is the transaction in which the row was inserted, and no other that a handler began, is proved
by a savepoint: it is set with the message that begins, and released with the one that commits, which fails without it.
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
"""The savepoint's name. A handler that returned to it would undo the row, so no handler can know it."""
NOT_OURS = (asyncpg.InvalidSavepointSpecificationError, asyncpg.NoActiveSQLTransactionError)
"""What PostgreSQL answers where the savepoint is no part of the current transaction, or there is none."""


class TransactionLeft(Permanent):
    """A handler ended the transaction that it was given. What it has committed stands, and would again each time."""

    def __init__(self) -> None:
        super().__init__(
            "the handler ended the transaction that it was given (COMMIT, ROLLBACK); what it wrote outside of it may "
            "stand, and is not undone. Commit nothing by hand; wrap parts in connection.transaction()"
        )


class Begun(Transaction):
    """A transaction that we have begun ourselves, in one message with something else, and that we end ourselves.

    To the library it is what ``connection.transaction()`` would have started: a handler's own are savepoints in it.
    """

    def __init__(self, connection: "OwnConnection") -> None:
        super().__init__(connection, None, False, False)
        self._state = TransactionState.STARTED
        connection._top_xact = self  # type: ignore[attr-defined]  # noqa: SLF001  as its start would do

    def end(self, connection: "OwnConnection") -> None:
        """It is being committed."""
        self._state = TransactionState.COMMITTED
        connection._top_xact = None  # type: ignore[attr-defined]  # noqa: SLF001


class ConnectionProxy:
    """What a handler is given: all that the connection can do, for as long as the handler's work lasts."""

    __slots__ = ("_connection",)

    def __init__(self, connection: "OwnConnection") -> None:
        self._connection: OwnConnection | None = connection

    def __getattr__(self, name: str) -> Any:
        if self._connection is None:
            raise asyncpg.InterfaceError(f"{name} cannot be used: the handler that was given this connection has ended")
        return getattr(self._connection, name)

    async def reset(self, *, timeout: float | None = None) -> NoReturn:
        """Refused: it would end the transaction, and what followed would be committed by itself."""
        del timeout
        raise asyncpg.InterfaceError("reset() cannot be used: it would end the transaction that the handler was given")

    def take_back(self) -> None:
        """Make it useless."""
        self._connection = None


class OwnConnection(Plain):
    """One connection of ours."""

    generation = 0
    """Which of the lender's generations it belongs to."""
    free_since = 0.0
    """When it was given back last."""
    _lent = False
    _begun: Begun | None = None

    def lend(self) -> ConnectionProxy:
        """Have code that is not ours use it, until that is taken back."""
        self._lent = True
        return ConnectionProxy(self)

    @property
    def is_clean(self) -> bool:
        """Whether nothing is left of who used it last."""
        return not self._lent and not self.is_in_transaction()

    async def begin(self, longest_idle: int) -> Begun:
        """A transaction: the one that the last commit began, or a new one. PostgreSQL ends it when it idles for so many
        milliseconds; the limit goes with the message that begins, for this transaction only."""
        begun, self._begun = self._begun, None
        if begun is None:
            await self.execute(_beginning(longest_idle))
            begun = Begun(self)
        return begun

    async def end_begun(self) -> None:
        """End the transaction that the last commit began: nothing will come of it."""
        begun, self._begun = self._begun, None
        if begun is not None:
            await begun.rollback()

    async def commit_and_reset(self, transaction: Begun, *, begin_next: int | None = None) -> None:
        """Commit what a handler did, and take the connection back; ``Transient`` where there is nothing to commit.

        ``begin_next``: a further transaction that may idle for so long is begun, for ``begin`` to return. PostgreSQL
        answers the commit of a failed transaction with a rollback and no error.
        """
        if self.is_closed():
            raise Transient("the connection was closed or lost while the handler had it, and the handler went on")
        following = self.get_reset_query()
        if begin_next is not None:
            # Reset in a transaction of its own: the next one must not take it back, nor begin as this one wished.
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
        """Undo what a handler did that has failed; ``TransactionLeft`` where that is no longer in one's hands."""
        if self.is_closed():
            return
        transaction.end(self)
        try:
            await self.execute(f"ROLLBACK TO SAVEPOINT {PROOF}; ROLLBACK;")
        except NOT_OURS:
            raise self._left() from None

    def _left(self) -> TransactionLeft:
        """Nobody knows what is on this connection."""
        self.terminate()
        return TransactionLeft()

    def get_reset_query(self) -> str:
        """What asyncpg sends to have a session as new."""
        return super().get_reset_query() if self._lent else ""

    async def reset(self, *, timeout: float | None = None) -> None:
        """See ``asyncpg.Connection``."""
        self._begun = None
        await super().reset(timeout=timeout)
        self._become_clean()

    def _become_clean(self) -> None:
        if self._lent:
            self._lent = False
            self._on_release()  # type: ignore[attr-defined]  # statements that a handler may have kept end with it


def _beginning(longest_idle: int) -> str:
    return f"BEGIN; SET LOCAL idle_in_transaction_session_timeout = {longest_idle:d}; SAVEPOINT {PROOF};"
