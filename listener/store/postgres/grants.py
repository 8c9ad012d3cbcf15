"""The rights of the roles of a group: listener, console and handler, each without what it does not need.

They are given by the owner of the tables, who migrates them. Roles are made by an administrator, with their passwords.
"""

import asyncpg

from unlost.listener.core.errors import Misconfigured, NotPermitted
from unlost.listener.store.postgres.connections import Connection
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.statements import quoted

KINDS = ("listener", "console", "handler")
OWNS = "SELECT pg_has_role(nspowner, 'MEMBER') FROM pg_catalog.pg_namespace WHERE nspname = $1"
NO_ROLE = (asyncpg.UndefinedObjectError, asyncpg.InvalidParameterValueError)
REFUSED = (*NO_ROLE, asyncpg.InsufficientPrivilegeError)


async def grant(database: Database, roles: dict[str, str]) -> list[str]:
    """Give the roles their rights, all or none; return a sentence for each. ``roles``: by kind."""
    texts = database.statements("unlost.listener.store.postgres", "grants.sql")
    sql = {name: text.replace("{schema}", quoted(database.schema)) for name, text in texts.items()}
    done = []
    async with database.acquire("granting rights") as connection, connection.transaction():
        # To a stranger, PostgreSQL only warns that nothing was granted.
        if not await connection.fetchval(OWNS, database.schema):
            raise Misconfigured(f"only the owner of schema {database.schema} may grant rights on it")
        try:
            await connection.execute(sql["closed"])
            for kind, role in roles.items():
                await connection.execute(sql[kind].replace("{role}", quoted(role)))
                done.append(f"granted the rights of a {kind} on schema {database.schema} to {role}")
            if "listener" in roles and "handler" in roles:
                becomes = sql["becomes"].replace("{role}", quoted(roles["handler"]))
                await connection.execute(becomes.replace("{listener}", quoted(roles["listener"])))
        except NO_ROLE as error:
            raise Misconfigured(f"{error}; make it first: CREATE ROLE name LOGIN PASSWORD '…'") from None
        except asyncpg.InsufficientPrivilegeError as error:
            raise Misconfigured(f"these rights cannot be granted by this role: {error}") from None
    return done


async def become(connection: Connection, role: str) -> None:
    """Give up the rights of the listener until the transaction ends. ``NotPermitted`` if that is refused."""
    try:
        await connection.execute(f"SET LOCAL ROLE {quoted(role)}")
    except REFUSED as error:
        raise NotPermitted(
            f"HANDLER_ROLE {role} cannot be used: {error}; run `unlost migrate` with --grants-listener and "
            "--grants-handler, or GRANT it to the listener's role",
            sqlstate=error.sqlstate,
        ) from error


async def check_role(database: Database, role: str) -> None:
    """Refuse to start if the listener cannot become the handler's role: each event would fail."""
    async with database.acquire("looking at HANDLER_ROLE") as connection:
        transaction = connection.transaction()
        await transaction.start()
        try:
            await become(connection, role)
        except NotPermitted as error:
            raise Misconfigured(str(error)) from None
        finally:
            await transaction.rollback()
