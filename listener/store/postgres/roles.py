"""Makes the roles of a group: a login for listeners, one for the console, and the handler's, which is taken on.

For a server that is Unlost's alone: the superuser owns Unlost's tables, the handler's role those of the user, and
daemons connect as these roles. Elsewhere an administrator makes roles, and ``unlost migrate --grants-…`` gives them
their rights.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from unlost.listener.store.postgres.connections import Connection
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.grants import grant
from unlost.listener.store.postgres.statements import quoted, schema_of

LONGEST = 63 - len("_listener")


@dataclass(frozen=True, slots=True)
class RoleNames:
    """The names of a group's roles."""

    listener: str
    console: str
    handler: str

    @classmethod
    def of(cls, group: str) -> "RoleNames":
        """Those of this group."""
        begins = schema_of(group)[:LONGEST]
        return cls(f"{begins}_listener", f"{begins}_console", f"{begins}_handler")

    def by_kind(self) -> dict[str, str]:
        """Each name, by what it is for."""
        return {"listener": self.listener, "console": self.console, "handler": self.handler}


async def provide(database: Database, passwords: Mapping[str, str]) -> None:
    """Make the roles of a group, and give them their rights. It can be done again at any time.

    ``database``: as superuser, migrated. ``passwords``: of the listener's and the console's role.
    """
    names = RoleNames.of(database.group)
    sql = database.statements("unlost.listener.store.postgres", "roles.sql")
    async with database.acquire("making roles") as connection, connection.transaction():
        for kind, role in names.by_kind().items():
            await _make(connection, sql, role, passwords.get(kind))
    await grant(database, names.by_kind())
    async with database.acquire("granting rights") as connection, connection.transaction():
        for row in await connection.fetch(sql["users_schemas"]):
            await _give(connection, sql, row["nspname"], names.handler)


async def provide_producers(database: Database, role: str, password: str) -> None:
    """Make a role for producers whose journal is in the same database. They create the journal's schema themselves."""
    sql = database.statements("unlost.listener.store.postgres", "roles.sql")
    async with database.acquire("making roles") as connection, connection.transaction():
        await _make(connection, sql, role, password)
        await connection.execute(await connection.fetchval(sql["may_create"], role))


async def _give(connection: Connection, sql: Mapping[str, str], schema: str, handler: str) -> None:
    """Let the handler use and change everything in a schema of the user's."""
    text = sql["handlers"].replace("{users}", quoted(schema))
    await connection.execute(text.replace("{role}", quoted(handler)))
    for (statement,) in await connection.fetch(sql["to_handler"], schema, handler):
        await connection.execute(statement)


async def _make(connection: Connection, sql: Mapping[str, str], role: str, password: str | None) -> None:
    if not await connection.fetchval(sql["exists"], role):
        await connection.execute(await connection.fetchval(sql["create"], role))
    if password is None:
        await connection.execute(await connection.fetchval(sql["no_login"], role))
    else:
        await connection.execute(await connection.fetchval(sql["login"], role, password))
