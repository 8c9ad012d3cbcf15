"""A connection that knows whether it must be reset before somebody else uses it, and how it is lent to a handler.

Our own statements leave nothing behind in a session, so between them nothing is sent. A handler may leave anything:
settings, advisory locks, listening. What was lent to one is reset in full, and where the handler's transaction
commits, in the same message as the commit. Whatever fails on the way leaves it to be reset when it is given back. What
a handler holds is good for nothing once its work has ended.
"""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import asyncpg
from asyncpg.transaction import Transaction

from listener.errors import Transient

if TYPE_CHECKING:
    Plain = asyncpg.Connection[asyncpg.Record]
else:
    Plain = asyncpg.Connection

COMMIT = "COMMIT;"
"""What asyncpg sends at the end of an outer transaction; were it anything else, the reset would go by itself."""

PROOF = "SELECT;"
"""Fails in a transaction that has failed, and keeps what follows in the same message from being done."""


class Lent:
    """What a handler is given: all that the connection can do, for as long as the handler's work lasts."""

    __slots__ = ("_connection",)

    def __init__(self, connection: "OwnConnection") -> None:
        self._connection: OwnConnection | None = connection

    def __getattr__(self, name: str) -> Any:
        if self._connection is None:
            raise asyncpg.InterfaceError(f"{name} cannot be used: the handler that was given this connection has ended")
        return getattr(self._connection, name)

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
    _ending = False

    @contextlib.contextmanager
    def lent(self) -> Iterator[Lent]:
        """Have code that is not ours use it meanwhile."""
        self._lent = True
        lent = Lent(self)
        try:
            yield lent
        finally:
            lent.take_back()

    @property
    def is_clean(self) -> bool:
        """Whether nothing is left of who used it last."""
        return not self._lent and not self.is_in_transaction()

    async def commit_and_reset(self, transaction: Transaction) -> None:
        """Commit what a handler did, and take the connection back; ``Transient`` where there is nothing to commit.

        PostgreSQL answers the commit of a failed transaction with a rollback and no error.
        """
        if not self.is_in_transaction():
            raise Transient("the handler ended the transaction that it was given; begin parts of it with transaction()")
        self._ending = True
        try:
            await transaction.commit()
        except asyncpg.InFailedSQLTransactionError as error:
            raise Transient(
                "the handler went on after an error that had ended its transaction; "
                "let it pass, or wrap what may fail in connection.transaction()"
            ) from error
        finally:
            self._ending = False

    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> str:
        """See ``asyncpg.Connection``."""
        if not (self._ending and self._lent and query == COMMIT):
            return await super().execute(query, *args, timeout=timeout)
        status = await super().execute(f"{PROOF} {query} {self.get_reset_query()}", timeout=timeout)
        self._become_clean()
        return status

    def get_reset_query(self) -> str:
        """What asyncpg sends to have a session as new."""
        return super().get_reset_query() if self._lent else ""

    async def reset(self, *, timeout: float | None = None) -> None:
        """See ``asyncpg.Connection``."""
        await super().reset(timeout=timeout)
        self._become_clean()

    def _become_clean(self) -> None:
        if self._lent:
            self._lent = False
            self._on_release()  # type: ignore[attr-defined]  # statements that a handler may have kept end with it
