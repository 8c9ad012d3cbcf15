"""The pauses of a group in PostgreSQL."""

from typing import NamedTuple

from unlost.listener.core.pause import Pause, Paused
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.reports import Reports

MOST = 100


class Doubt(NamedTuple):
    """Why a name seems to be wrong. Empty: it is known. ``refuses``: every listener has reported, and none has it."""

    why: str = ""
    refuses: bool = False


class PostgresPauses:
    """``Pauses`` in the table ``pauses``, and how they begin and end."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = database.statements("unlost.listener.store.postgres", "pauses.sql")

    async def now(self) -> list[Pause]:
        """See ``Pauses``."""
        async with self._database.acquire("reading pauses") as connection:
            return [Pause(*row) for row in await connection.fetch(self._sql["now"])]

    async def doubt(self, kind: Paused, name: str) -> Doubt:
        """Ask whether a listener of this name, or with a route of this name, has reported."""
        silent: list[str] = []
        async with self._database.acquire(f"looking for the {kind}") as connection:
            if kind == "route":
                known = [row["route"] for row in await connection.fetch(self._sql["routes"])]
                silent = [row["instance_id"] for row in await connection.fetch(self._sql["without_routes"])]
            else:
                known = [one.instance_id for one in await Reports(connection, self._database.group).members()]
        if name in known:
            return Doubt()
        group, others = self._database.group, ", ".join(known) or "none that has reported"
        if kind == "listener":
            return Doubt(f"no listener of group {group} is called {name!r}, but: {others}", refuses=True)
        why = f"no listener of group {group} has reported a route called {name!r}; the routes are: {others}"
        if not silent:
            return Doubt(why, refuses=True)
        return Doubt(f"{why}; of a version that reports no routes: {', '.join(silent)}")

    async def begin(self, kind: Paused, name: str, *, by: str, why: str) -> bool:
        """Pause a listener or a route; return False if it is paused already, or too much is."""
        async with self._database.acquire("pausing") as connection:
            return await connection.execute(self._sql["begin"], kind, name, by, why, MOST) == "INSERT 0 1"

    async def end(self, kind: Paused, name: str) -> bool:
        """End a pause; return False if there was none."""
        async with self._database.acquire("ending a pause") as connection:
            return await connection.execute(self._sql["end"], kind, name) == "DELETE 1"
