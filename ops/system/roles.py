"""The roles of a local system: no daemon is a superuser of PostgreSQL, and none may administrate Valkey.

Passwords are made anew at each start, and only the daemons have them.
"""

import asyncio
import os
import secrets
from collections.abc import Mapping

from unlost.listener.core.errors import UnlostError
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.migrations import migrate
from unlost.listener.store.postgres.roles import RoleNames, provide, provide_producers
from unlost.ops.system.child import ChildFailed
from unlost.ops.system.postgres import PostgresServer
from unlost.ops.system.postgres_topologies import PostgresTopology

PRODUCER_ROLE = "unlost_producer"


async def prepared(
    url: str, group: str, passwords: Mapping[str, str], producers: tuple[str, str] | None = None
) -> None:
    """Bring the tables of a group up to date, and make its roles. ``url``: as superuser.

    ``producers``: name and password of the role for a journal in the same database.
    """
    database = Database(url, group=group, name="unlost roles", connections=1, timeout=60.0, connect_timeout=30.0)
    try:
        await migrate(database)
        await provide(database, passwords)
        if producers is not None:
            await provide_producers(database, *producers)
    finally:
        await database.close()


class LocalRoles:
    """The roles of one group in servers that are this system's alone."""

    def __init__(self, postgres: PostgresServer | PostgresTopology, group: str, *, producers: bool = False) -> None:
        """``producers``: several share a journal in the same database, and have a role too."""
        self._postgres = postgres
        self._group = group
        self._names = RoleNames.of(group)
        self._passwords = {kind: secrets.token_urlsafe(24) for kind in ("listener", "console")}
        self._producer = (PRODUCER_ROLE, secrets.token_urlsafe(24)) if producers else None

    def provide(self) -> None:
        """Bring the tables up to date, and make the roles. PostgreSQL runs."""
        try:
            asyncio.run(prepared(self._postgres.url, self._group, self._passwords, self._producer))
        except UnlostError as error:
            raise ChildFailed("postgres", f"has no tables and roles yet: {error}") from error

    @property
    def listener_url(self) -> str:
        """By which listeners reach PostgreSQL."""
        return self._postgres.nearest_url_of(self._names.listener, self._passwords["listener"])

    @property
    def console_url(self) -> str:
        """By which the console does."""
        return self._postgres.nearest_url_of(self._names.console, self._passwords["console"])

    @property
    def producer_url(self) -> str:
        """By which producers reach their journal."""
        assert self._producer is not None, "this system's producer has a journal of its own"
        return self._postgres.nearest_url_of(*self._producer)

    @property
    def settings(self) -> dict[str, str]:
        """Settings of all that run the handler. Your own HANDLER_ROLE has precedence."""
        return {"MIGRATE": "no", "HANDLER_ROLE": os.environ.get("HANDLER_ROLE") or self._names.handler}
