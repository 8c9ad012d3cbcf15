"""Keeps the group's cursor: how far everything is settled, in PostgreSQL, about once a second."""

import asyncio

from listener.errors import Permanent, Transient
from listener.facts import CursorNotSaved, CursorSaved, Facts
from listener.store.port import GroupCursors
from listener.watermark import Watermark


class CursorKeeper:
    """Writes the watermark's cursor when it has moved."""

    def __init__(self, watermark: Watermark, cursors: GroupCursors, *, source: str, group: str, facts: Facts) -> None:
        self._watermark = watermark
        self._cursors = cursors
        self._source = source
        self._group = group
        self._facts = facts
        self._saved: str | None = None
        self.stored: str | None = None
        """The group's cursor, as PostgreSQL answered to the last write."""

    async def run(self, every: float = 1.0) -> None:
        """Save until cancelled."""
        while True:
            await asyncio.sleep(every)
            await self.save()

    async def save(self) -> None:
        """Write the cursor if it has moved; a failure is stated, and the next write makes up for it."""
        cursor = self._watermark.cursor
        if cursor is None or cursor == self._saved:
            return
        try:
            self.stored = await self._cursors.advance(self._source, self._group, cursor)
        except (Transient, Permanent) as error:
            self._facts(CursorNotSaved(str(error)))
            return
        self._saved = cursor
        self._facts(CursorSaved(cursor))
