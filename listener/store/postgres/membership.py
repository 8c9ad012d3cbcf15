"""The membership: which listeners of a group are alive, and in which places each replicates what it holds.

A row lives for some seconds after its last refresh, by the server's clock. If that clock goes back, each row and each
lease counts from then on: dead listeners do not live on for the size of the jump, and living ones keep what they have.
After a crash of the server, every row lives that long again: a peer that could not refresh meanwhile is not taken for
dead. Rows that have been dead for a minute are deleted: nobody waits for them then. Listeners declare under one lock
for each group and read the peers after it. So if two declare at once, the second sees the first.

Each row names its listener's handler. A listener that joins agrees with those at work, or its row says that it does
not. Then it starts nothing until no other handler is at work. A listener that has agreed keeps that as long as its row
lives.
"""

import asyncpg

from unlost.listener.core.store_mark import UNCONFIRMED, StoreMark
from unlost.listener.ports.membership import Member, MembershipView
from unlost.listener.store.postgres.connections import Connection
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.incarnation import incarnation


class PostgresMembership:
    """One listener's row, and its view of the others'."""

    def __init__(
        self,
        database: Database,
        *,
        token: str,
        instance_id: str,
        life_seconds: float = 4.0,
        handler: str | None = None,
        changes_handler: bool = False,
        listens: bool = True,
    ) -> None:
        """Make one. ``changes_handler``: may work beside another handler. ``listens``: false for a replay."""
        self.life_seconds = life_seconds
        self.handler = handler
        self.routes: tuple[str, ...] = ()
        self._changes_handler = changes_handler
        self._listens = listens
        self._database = database
        self._token = token
        self._instance_id = instance_id
        self._sql = database.statements("unlost.listener.store.postgres", "membership.sql")

    async def refresh(self, known: StoreMark | None = None) -> MembershipView:
        """Report that this listener is alive, unless its row has expired, and return a view of all.

        ``known``: the store as last seen. Its version is raised, unless the store went back since.
        """
        async with self._database.acquire("refreshing the membership") as connection:
            place = await incarnation(connection, self._sql)
            rows = await connection.fetch(self._sql["refresh"], self._token, self.life_seconds)
            if any(row["late"] for row in rows):
                await connection.execute(self._sql["cut_leases"])
            store = await self._store(connection, place, known)
        return self._seen(rows, store)

    async def declare(self, places: frozenset[str]) -> MembershipView:
        """Write this listener's places, then read the view, under the group's lock."""
        async with self._database.acquire("declaring the places of claims") as connection:
            place = await incarnation(connection, self._sql)
            async with connection.transaction():
                rows = await self._declare(connection, places)
                store = await self._store(connection, place, None)
        return self._seen(rows, store)

    async def renew(self, generation: str, version: int, *, unconfirmed: bool = False) -> None:
        """See ``Membership``."""
        async with self._database.acquire("replacing the store's generation") as connection:
            await connection.execute(self._sql["renew"], generation, version, UNCONFIRMED if unconfirmed else "")

    async def leave(self) -> None:
        """Delete this listener's row, so that nobody waits for it."""
        async with self._database.acquire("leaving the group") as connection:
            await connection.execute(self._sql["leave"], self._token)

    async def _declare(self, connection: Connection, places: frozenset[str]) -> list[asyncpg.Record]:
        await connection.execute(self._sql["lock"])
        await connection.execute(
            self._sql["upsert"], self._token, self._instance_id, sorted(places), self.handler,
            self._listens, self._changes_handler, self.life_seconds, self.routes,
        )  # fmt: skip
        return await connection.fetch(self._sql["live"], self.life_seconds)

    async def _store(self, connection: Connection, place: str, known: StoreMark | None) -> StoreMark:
        row = known and await connection.fetchrow(self._sql["grow"], known.generation, known.version)
        while not row and (row := await connection.fetchrow(self._sql["store"])) is None:
            await connection.execute(self._sql["found_store"])
        assert row is not None
        return StoreMark(row["generation"], row["version"], place)

    def _seen(self, rows: list[asyncpg.Record], store: StoreMark) -> MembershipView:
        places = {row["token"]: frozenset(row["places"]) for row in rows}
        mine = places.pop(self._token, None)
        self._database.claims_place = store.incarnation
        agreed = any(row["agreed"] for row in rows if row["token"] == self._token)
        members = tuple(
            Member(row["token"], row["instance_id"], row["handler"], row["agreed"])
            for row in rows
            if row["listens"] and row["token"] != self._token
        )
        return MembershipView(self._token, mine, places, store.incarnation, store, agreed, members)
