"""Gives another driver the transport of an asyncpg connection, between two answers of the server.

asyncpg has no public way to its transport, so private names are used here. Meanwhile asyncpg receives nothing from the
server. The other driver must be done when the server has answered everything.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from unlost.listener.store.postgres.connections import Connection

CANCEL_SECONDS = 5.0


class SharedTransport(Connection):
    """A connection whose transport another driver can use."""

    @contextmanager
    def shared_transport(self, other: asyncio.Protocol) -> "Iterator[asyncio.Transport]":
        """Yield the transport. While the context lasts, ``other`` receives what the server sends."""
        transport: asyncio.Transport = self._transport  # type: ignore[attr-defined]
        owner: Any = self._protocol  # type: ignore[attr-defined]
        transport.set_protocol(_Both(owner, other))
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
    """Passes everything to the other driver, and to asyncpg that the connection is lost."""

    def __init__(self, owner: asyncio.Protocol, other: asyncio.Protocol) -> None:
        self._owner = owner
        self.data_received = other.data_received  # type: ignore[method-assign]
        self.pause_writing = other.pause_writing  # type: ignore[method-assign]
        self.resume_writing = other.resume_writing  # type: ignore[method-assign]
        self._other = other

    def connection_lost(self, exc: Exception | None) -> None:
        """See ``asyncio.Protocol``."""
        self._owner.connection_lost(exc)
        self._other.connection_lost(exc)
