"""Commits the group's cursor, up to which everything is settled, to PostgreSQL about once a second."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from unlost.listener.core.errors import Permanent, Transient
from unlost.listener.core.facts import CursorNotSaved, CursorSaved, Facts
from unlost.listener.core.store_mark import StoreMark
from unlost.listener.core.watermark import Watermark
from unlost.listener.ports.cursors import GroupCursors


class CursorCommitter:
    """Saves the watermark's cursor when it has moved.

    Each save names the store in which everything up to the cursor is settled. Another store, or
    one that went back, refuses it: the cursor must not skip events that were lost.
    """

    def __init__(
        self,
        watermark: Callable[[], Watermark],
        cursors: GroupCursors,
        *,
        store: Callable[[], StoreMark | None],
        source: str,
        group: str,
        facts: Facts,
        before: Sequence[Callable[[], Awaitable[None]]] = (),
    ) -> None:
        """``before``: what is saved before the cursor."""
        self._watermark = watermark
        self._store = store
        self._cursors = cursors
        self._source = source
        self._group = group
        self._facts = facts
        self._before = before
        self._saved: tuple[int, str | None] = (0, None)
        self._answer: tuple[StoreMark | None, str] | None = None

    @property
    def stored(self) -> str | None:
        """The group's cursor in PostgreSQL's answer to the last save; None once PostgreSQL is another store."""
        if self._answer is None or _name(self._answer[0]) != _name(self._store()):
            return None
        return self._answer[1]

    async def run(self, every: float = 1.0) -> None:
        """Save until cancelled."""
        while True:
            await asyncio.sleep(every)
            await self.save()

    async def save(self) -> None:
        """Save the cursor if it has moved. A failure is reported, and the next save replaces it."""
        watermark = self._watermark()
        cursor, state = watermark.cursor, (watermark.reading, watermark.cursor)
        for save in self._before:
            await save()
        if cursor is None or state == self._saved:
            return
        store = self._store()
        try:
            stored = await self._cursors.advance(self._source, self._group, cursor, store)
        except (Transient, Permanent) as error:
            self._facts(CursorNotSaved(str(error)))
            return
        if stored is None:
            self._answer = None
            self._facts(CursorNotSaved("PostgreSQL is another store than the one in which all before it was settled"))
            return
        self._saved, self._answer = state, (store, stored)
        self._facts(CursorSaved(cursor))


def _name(store: StoreMark | None) -> str:
    return "" if store is None else store.name
