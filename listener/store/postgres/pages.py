"""Pages of rows for people, read from a standby if there is one, at no cost for the primary.

A page has the age of the standby's copy. Without the standby, the primary is read. Nothing that must be exact is
read here: the audit, and the row of one event, come from the primary.
"""

from typing import Any, NamedTuple

from unlost.listener.core.codec import EventCodec
from unlost.listener.core.errors import Permanent, Transient
from unlost.listener.ports.rows import Rows
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.rows import NEWEST, page_in


class RowPage(NamedTuple):
    """Rows, newest first."""

    rows: list[dict[str, Any]]
    behind_seconds: float | None
    """How old the last commit is that this server has; None if it is the primary, which has all."""


class Pages:
    """Reads pages from ``standby``, or else from ``primary``."""

    def __init__(self, primary: Rows, standby: Database | None, codec: EventCodec | None = None) -> None:
        self._primary = primary
        self._standby = standby
        self._codec = codec

    async def page(self, before: int | None, limit: int) -> RowPage:
        """Return up to ``limit`` rows, newest first, with a ``seq`` below ``before``."""
        if self._standby is not None:
            try:
                return await _page_of(self._standby, NEWEST if before is None else before, limit, self._codec)
            except (Transient, Permanent):  # it is away: the primary has all that it has
                pass
        return RowPage(await self._primary.page(before, limit), None)

    async def close(self) -> None:
        """Close the connections to the standby."""
        if self._standby is not None:
            await self._standby.close()


async def _page_of(standby: Database, before: int, limit: int, codec: EventCodec | None) -> RowPage:
    sql = standby.statements("unlost.listener.store.postgres", "rows.sql")
    async with standby.acquire("reading a page of events") as connection:
        rows = await page_in(connection, sql["page"], before, limit, codec)
        return RowPage(rows, await connection.fetchval(sql["behind"]))
