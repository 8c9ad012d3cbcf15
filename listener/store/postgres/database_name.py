"""A short name of a database, by which a producer distinguishes groups with the same name.

It is the same for all members of a group, also on a standby and after a backup of it was restored in its place. A
database of another name or on another server has another one. So a test system whose tables were copied from the live
system is not taken for it.
"""

import contextlib
import hashlib

import asyncpg

from unlost.listener.store.postgres.connections import Connection

MAY_ASK = "select has_function_privilege('pg_control_system()', 'execute')"
SERVER = "select system_identifier::text from pg_control_system()"
DATABASE = "select current_database()::text"


async def name_of_database(connection: "Connection | asyncpg.Connection") -> str:
    """Return the name, eight hexadecimal digits. Where the server keeps its own identity to itself, only the name of
    the database counts.
    """
    server = ""
    if await connection.fetchval(MAY_ASK):
        with contextlib.suppress(asyncpg.PostgresError):
            server = await connection.fetchval(SERVER)
    database = await connection.fetchval(DATABASE)
    return hashlib.blake2b(f"{server} {database}".encode(), digest_size=4).hexdigest()
