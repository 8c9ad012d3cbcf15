"""psycopg's connections in the transaction of the row: on its server session, by way of a relay.

The route works within ``connection.transaction()``, which is a savepoint of the row's transaction. There psycopg
refuses ``commit()`` and ``rollback()``, and a route's own ``transaction()`` is a savepoint too.

Imported only if a route asks for a connection (``pip install "unlost[psycopg]"``).
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import psycopg

from unlost.listener.ports.rows import HandlerConnection
from unlost.listener.routing.relay import offered
from unlost.listener.routing.threads import Bridge

OpenConnection = Callable[[HandlerConnection], AbstractAsyncContextManager[psycopg.AsyncConnection[Any]]]
NEVER_PREPARED: dict[str, Any] = {"prepare_threshold": None}
"""Statements stay in the server's session, and the next route's connection would use their names again."""


def connections_of(kind: type[psycopg.AsyncConnection[Any]]) -> OpenConnection:
    """Return a function that opens a connection of this class on another's session."""

    @asynccontextmanager
    async def open_connection(connection: HandlerConnection) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        async with offered(connection) as address:
            own = await kind.connect(**address, **NEVER_PREPARED)
            try:
                async with own.transaction():
                    yield own
            finally:
                await own.close()

    return open_connection


def sync_connections_of(kind: type[psycopg.Connection[Any]]) -> tuple[Any, Any]:
    """Return what offers a session at a relay, and what opens a connection of this class there, in a thread."""

    def use_connection(address: dict[str, Any], bridge: Bridge, use: Callable[[psycopg.Connection[Any]], None]) -> None:
        del bridge  # its socket is its way
        own = kind.connect(**address, **NEVER_PREPARED)
        try:
            with own.transaction():
                use(own)
        finally:
            own.close()

    return offered, use_connection
