"""Finds out whether a pooler before PostgreSQL loses prepared statements.

A pooler in transaction mode gives each transaction another server's session. A statement that was prepared in one
session is unknown in the next, or is somebody else's of the same name. pgbouncer keeps track of them from 1.21 on, if
``max_prepared_statements`` is set. So the question is not which pooler it is, but whether a statement is found again.

Direct connections are recognised at once: the server's process is the one that its greeting named.
"""

import secrets
from collections.abc import Awaitable, Callable

import asyncpg

from unlost.listener.store.postgres.connections import Connection
from unlost.listener.store.postgres.errors import forgot_statements

PROCESS = "SELECT pg_backend_pid()"
TRIES = 5
"""How often to try: another client may take the session that we want to occupy."""
WAIT_SECONDS = 1.0
"""The wait for a second session: a pooler with only one has none while we hold it."""


async def is_direct(connection: Connection) -> bool:
    """Return whether this connection leads to the server itself."""
    return bool(await connection.fetchval(PROCESS) == connection.get_server_pid())


async def keeps_statements(connect: Callable[[], Awaitable[Connection]]) -> bool:
    """Return whether statements stay prepared. ``connect`` opens connections that keep none."""
    one = await connect()
    try:
        other = await connect()
        try:
            for _ in range(TRIES):
                if not await _finds_again(one, other):
                    return False
            return True
        finally:
            other.terminate()
    finally:
        one.terminate()


async def _finds_again(one: Connection, other: Connection) -> bool:
    """Prepare on one connection, occupy its session with the other, and execute."""
    try:
        statement = await one.prepare(PROCESS, name=f"unlost_{secrets.token_hex(6)}")
        await statement.fetchval()
        async with other.transaction():
            await other.execute("SELECT 1")
            await statement.fetchval(timeout=WAIT_SECONDS)
    except TimeoutError:
        return False
    except asyncpg.PostgresError as error:
        if forgot_statements(error):
            return False
        raise
    return True
