"""Takes all of PostgreSQL's connections: ends those of other clients and takes their slots, until none is left."""

import asyncio
import contextlib

import asyncpg

from unlost.listener.store.postgres.errors import LIBRARY_ERRORS

AT_ONCE = 8
KEEP_TRYING = 0.2
END_OTHERS = """
select pg_terminate_backend(pid) from pg_stat_activity
where backend_type = 'client backend' and application_name <> 'unlost drill' and pid <> pg_backend_pid()
"""


class Hoard:
    """Takes all connections, and gives them back."""

    def __init__(self, database_url: str) -> None:
        self._url = database_url
        self._held: list[asyncpg.Connection] = []
        self._keeping: asyncio.Task[None] | None = None

    async def take(self) -> None:
        """Return when all connections are held here. Slots that become free later are taken too."""
        await self._grab()
        for _ in range(3):
            await self._held[0].fetch(END_OTHERS)
            await self._grab()
        self._keeping = asyncio.create_task(self._keep(), name="hoard")

    async def give(self) -> None:
        """Close all of them at once."""
        if self._keeping is not None:
            self._keeping.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeping
        self._keeping = None
        for connection in self._held:
            connection.terminate()
        self._held.clear()

    async def _grab(self) -> None:
        """Connect until PostgreSQL refuses."""
        while True:
            found = await asyncio.gather(*(self._one() for _ in range(AT_ONCE)))
            self._held += [one for one in found if one is not None]
            if None in found:
                return

    async def _one(self) -> asyncpg.Connection | None:
        try:
            return await asyncpg.connect(
                self._url, timeout=5, server_settings={"application_name": "unlost drill"}, command_timeout=10
            )
        except LIBRARY_ERRORS:
            return None

    async def _keep(self) -> None:
        while True:
            with contextlib.suppress(*LIBRARY_ERRORS):
                await self._held[0].fetch(END_OTHERS)
            await self._grab()
            await asyncio.sleep(KEEP_TRYING)
