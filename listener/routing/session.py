"""SQLAlchemy's session in the transaction of the row.

The session works on the connection on which the row was inserted, not on one of its own. A transaction of SQLAlchemy
is a savepoint there. So whatever a route does with the session, its writes are committed with the row, or
not at all: ``commit`` releases the savepoint, ``rollback`` goes back to it, and only the listener ends the transaction.

Imported only if a route asks for a session (``pip install "unlost[sqlalchemy]"``).
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from contextvars import ContextVar
from typing import Any

from sqlalchemy import types
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.postgresql import JSON, JSONB
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.pool import NullPool

from unlost.listener.ports.rows import HandlerConnection

OpenSession = Callable[[HandlerConnection], AbstractAsyncContextManager[AsyncSession]]

row_connection: ContextVar[HandlerConnection] = ContextVar("row_connection")
"""The connection that the next engine's connection works on."""


class RowDialect(PGDialect_asyncpg):
    """The dialect for asyncpg, but JSON stays text on the connection: others use it after this session."""

    supports_statement_cache = True
    supports_native_json_deserialization = False
    dialect_injects_custom_json_deserializer = False
    colspecs = {**PGDialect_asyncpg.colspecs, types.JSON: JSON, JSONB: JSONB}  # noqa: RUF012  as in its base

    async def setup_asyncpg_json_codec(self, conn: Any) -> None:
        """Change nothing. SQLAlchemy's types decode the text."""

    async def setup_asyncpg_jsonb_codec(self, conn: Any) -> None:
        """Change nothing. SQLAlchemy's types decode the text."""


registry.register("postgresql.unlost", __name__, "RowDialect")


class SessionConnection:
    """The connection as the session sees it. Closing it has no effect."""

    def __init__(self, connection: HandlerConnection) -> None:
        self._connection = connection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    async def close(self, timeout: float | None = None) -> None:
        """Do nothing: the listener ends the transaction, and releases the connection."""

    def terminate(self) -> None:
        """Do nothing."""


async def _row_connection(*_: object, **__: object) -> SessionConnection:
    return SessionConnection(row_connection.get())


def row_engine() -> AsyncEngine:
    """An engine that opens no connection: it works on ``row_connection``."""
    return create_async_engine("postgresql+unlost://", async_creator=_row_connection, poolclass=NullPool)


def sessions_of(kind: type[AsyncSession]) -> OpenSession:
    """Return a function that opens a session of this class on a connection; it flushes and commits at the end."""
    engine = row_engine()

    @asynccontextmanager
    async def open_session(connection: HandlerConnection) -> AsyncIterator[AsyncSession]:
        before = row_connection.set(connection)
        try:
            async with engine.connect() as own, kind(bind=own, expire_on_commit=False) as session:
                yield session
                await session.commit()
        finally:
            row_connection.reset(before)

    return open_session
