"""A PostgreSQL for tests: from its wheel, in a directory of its own, gone afterwards. Or one that exists already."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import asyncpg

from unlost.listener.store.postgres.connections import Connection
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.migrations import migrate
from unlost.listener.store.postgres.rows import PostgresRows
from unlost.ops.system.postgres import PostgresServer
from unlost.ops.testkit import prepared

NOT_DURABLE = ("-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "shared_buffers=16MB")
"""A test's data need not survive a power failure."""


@contextmanager
def running_postgres() -> Iterator[PostgresServer]:
    """Start a PostgreSQL, and remove it with its data."""
    directory = Path(tempfile.mkdtemp(prefix="unlost-testing-"))
    directory.chmod(0o755)  # as root, the server runs as another user, who must be able to enter
    server = PostgresServer(directory / "postgres", options=NOT_DURABLE, initdb_options=prepared.INITDB_OPTIONS)
    try:
        prepared.start(server)
        yield server
    finally:
        server.stop()
        shutil.rmtree(directory, ignore_errors=True)


@asynccontextmanager
async def open_store(postgres: bool | str) -> AsyncIterator[tuple[PostgresRows, Connection]]:
    """Return the rows of a database, up to date, and a connection to it. ``True``: of a new server."""
    if isinstance(postgres, str):
        async with _connected(postgres) as opened:
            yield opened
        return
    running = running_postgres()
    server = await asyncio.to_thread(running.__enter__)
    try:
        async with _connected(server.url) as opened:
            yield opened
    finally:
        await asyncio.to_thread(running.__exit__, None, None, None)


@asynccontextmanager
async def _connected(url: str) -> AsyncIterator[tuple[PostgresRows, Connection]]:
    database = Database(url, name="unlost test")
    try:
        await migrate(database)
        connection = await asyncpg.connect(url)
        try:
            yield PostgresRows(database, instance_id="test", token="test", handler="test"), connection  # noqa: S106  no secret
        finally:
            await connection.close()
    finally:
        await database.close()
