"""Lends the wire of an asyncpg connection to another driver, between two answers of the server.

asyncpg has no public way to its transport, so private names are used here. While the wire is lent, asyncpg hears
nothing of it. It must be given back when the server has answered everything.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from unlost.listener.store.postgres.connections import Connection

CANCEL_SECONDS = 5.0


class Lendable(Connection):
    """A connection whose wire can be lent."""

    @contextmanager
    def lend(self, borrower: asyncio.Protocol) -> "Iterator[asyncio.Transport]":
        """Let ``borrower`` hear the server, and give it the transport, for as long as the context lasts."""
        transport: asyncio.Transport = self._transport  # type: ignore[attr-defined]
        owner: Any = self._protocol  # type: ignore[attr-defined]
        transport.set_protocol(_Both(owner, borrower))
        try:
            yield transport
        finally:
            transport.set_protocol(owner)

    async def cancel_statement(self) -> None:
        """Ask the server to cancel the statement that runs, as asyncpg does after a time limit.

        If the server cannot be asked, asyncpg terminates this connection. Its method swallows a cancellation, so it
        runs in a task of its own, which a stop or the limit ends.
        """
        asked = asyncio.get_running_loop().create_future()
        asking = asyncio.create_task(self._cancel(asked), name="asking to cancel")  # type: ignore[attr-defined]
        try:
            await asyncio.wait({asking}, timeout=CANCEL_SECONDS)
        finally:
            asking.cancel()


class _Both(asyncio.Protocol):
    """Tells the borrower everything, and asyncpg that the connection is lost."""

    def __init__(self, owner: asyncio.Protocol, borrower: asyncio.Protocol) -> None:
        self._owner = owner
        self.data_received = borrower.data_received  # type: ignore[method-assign]
        self.pause_writing = borrower.pause_writing  # type: ignore[method-assign]
        self.resume_writing = borrower.resume_writing  # type: ignore[method-assign]
        self._borrower = borrower

    def connection_lost(self, exc: Exception | None) -> None:
        """See ``asyncio.Protocol``."""
        self._owner.connection_lost(exc)
        self._borrower.connection_lost(exc)
