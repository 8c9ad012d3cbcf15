"""The letters that the console shows: the fleet's list while PostgreSQL answers, else the files that it can read.

Which of the two it was is part of every answer. A request that names a file is about that file. Letters that only a
file has, since their listener has not shipped them yet, are shown beside the list, and said to be so.
"""

import asyncio
import time
from collections.abc import Iterable, Mapping
from typing import Any

from unlost.dlq.commands.keys import shown
from unlost.dlq.commands.reporter import plan_values
from unlost.dlq.record.file import FileError
from unlost.dlq.record.letter_state import What
from unlost.dlq.record.query import Selection
from unlost.dlq.store.coded import shown_entry
from unlost.dlq.store.entries import LetterEntry, as_values, redacted_entry
from unlost.dlq.store.port import CHANGEABLE, Unreachable
from unlost.listener.core.codec import EventCodec
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.letter_store import TableLetters
from unlost.ops.console.shelf import LEFT_OUT, MOST_LISTED, ConsoleFiles, kind_of
from unlost.ops.kit.telemetry.redact import Redactor

ASK_AGAIN_SECONDS = 2.0
UNSHIPPED = {"unshipped": True}
"""Marks a letter that only a file has."""


class ConsoleLetters:
    """One list of letters for the page, wherever they are."""

    def __init__(
        self, database: Database, shelf: ConsoleFiles, redactor: Redactor, codec: EventCodec | None = None
    ) -> None:
        self._codec = codec
        self._table = TableLetters(database)
        self._shelf = shelf
        self._redactor = redactor
        self._asked_at = -ASK_AGAIN_SECONDS
        self._why = ""

    async def away(self) -> str:
        """Why the fleet's list cannot be used now; empty if it can."""
        if time.monotonic() >= self._asked_at + ASK_AGAIN_SECONDS:
            try:
                await self._table.ready()
                self._why = ""
            except Unreachable as error:
                self._why = str(error)
            self._asked_at = time.monotonic()
        return self._why

    async def errors(self) -> list[str]:
        """Why letters may be missing here."""
        return await asyncio.to_thread(self._shelf.errors) if await self.away() else []

    async def groups(self, selection: Selection) -> dict[str, Any]:
        """Return groups of letters that failed in the same way, with the errors of files that cannot be read."""
        if why := await self.away():
            groups, errors = await asyncio.to_thread(lambda: (self._shelf.groups(selection), self._shelf.errors()))
            return {"groups": groups, "errors": [*errors, why], "where": "files", "unshipped": []}
        unshipped = await self._selected(await self._unshipped(), selection)
        board = await self._table.board(selection)
        groups = [{**one, "message": self._redactor.unknown(one["message"])} for one in board]
        return {"groups": groups, "errors": [], "where": self._table.where, "unshipped": unshipped}

    async def letters(self, selection: Selection, limit: int) -> dict[str, Any]:
        """Return the latest of the selected letters, newest first, without their events."""
        if await self.away():
            return await asyncio.to_thread(self._shelf.letters, selection, limit)
        unshipped = await self._unshipped()
        page = await self._table.latest(selection, max(1, min(limit, MOST_LISTED)))
        found = [self._values(one, self._redactor) for one in reversed(page.entries)]
        alone = await self._selected(_beside(unshipped, found), selection)
        every = sorted([*alone, *map(_without, found)], key=lambda one: one["last_at"], reverse=True)
        return {"letters": every, "count": page.count + len(alone)}

    async def _unshipped(self) -> list[dict[str, Any]]:
        """Return the latest letters in the files that the fleet's list lacks. Call this before asking the list."""
        try:
            recent = await asyncio.to_thread(self._shelf.recent)
        except (FileError, OSError):
            return []  # health and the overview name the file
        lacking = await self._table.lacks([one["letter_id"] for one in recent])
        return [one | UNSHIPPED for one in recent if one["letter_id"] in lacking]

    async def _selected(self, alone: list[dict[str, Any]], selection: Selection) -> list[dict[str, Any]]:
        """Those letters of files that a selection takes."""
        if not alone or selection.everything:
            return alone
        taken = await asyncio.to_thread(self._shelf.taken, selection)
        return [one for one in alone if one["letter_id"] in taken]

    async def letter(self, letter_id: str, redactor: Redactor) -> dict[str, Any]:
        """Return one letter, masked by this redactor. Raises ``Unknown``."""
        if not await self.away():
            for entry in (await self._table.latest(Selection(ids=(letter_id,)), 0)).entries:
                if entry.letter.letter_id == letter_id:
                    return self._values(entry, redactor)
            return await asyncio.to_thread(self._shelf.letter, letter_id, redactor) | UNSHIPPED
        return await asyncio.to_thread(self._shelf.letter, letter_id, redactor)

    async def of_event(self, event_id: str, redactor: Redactor) -> list[dict[str, Any]]:
        """Return all letters of an event, masked by this redactor."""
        if await self.away():
            return await asyncio.to_thread(self._shelf.of_event, event_id, redactor)
        unshipped = [one for one in await self._unshipped() if one["event_id"] == event_id]
        listed = (await self._table.latest(Selection(ids=(event_id,)), 0)).entries
        found = [self._values(one, redactor) for one in listed if one.letter.event_id == event_id]
        alone = [
            await asyncio.to_thread(self._shelf.letter, one["letter_id"], redactor) | UNSHIPPED
            for one in _beside(unshipped, found)
        ]
        return [*found, *alone]

    async def plans(self, selection: Selection, file: str | None, limit: int) -> list[dict[str, Any]]:
        """Plan a replay: of the list, or of each file that holds any of the letters. An empty name is the list."""
        if file or await self.away():
            return await asyncio.to_thread(self._shelf.plans, selection, file, limit)
        sums = await self._table.plan(selection, limit)
        return [{"file": "", **plan_values(sums)}] if sums.letters or sums.over else []

    async def changeable(self, selection: Selection, file: str | None, what: What) -> int:
        """Return how many letters ``change`` would change."""
        if file or await self.away():
            sums = await asyncio.to_thread(self._shelf.statistics, selection, file)
        else:
            sums = await self._table.statistics(selection)
        return sum(sums.by_state[state] for state in CHANGEABLE[what])

    async def blocking(self, selection: Selection, file: str | None) -> int:
        """Return how many of these may block a key. PostgreSQL alone knows: none, if it is away or a file is meant."""
        return 0 if file or await self.away() else await self._table.blocking(selection)

    async def keys(self, limit: int, redactor: Redactor) -> dict[str, Any]:
        """Return blocked keys, each with its age, its letters, and the letter that blocks it."""
        if why := await self.away():
            return {"keys": [], "away": why}
        return {"keys": shown(await self._table.keys(limit), redactor), "away": ""}

    async def change(
        self, selection: Selection, file: str | None, what: What, why: str, by: str, *, followers_go: bool = False
    ) -> int:
        """Archive or restore letters; return how many. ``by``: who asked for it.

        ``followers_go``: later events of their keys no longer wait for them.
        """
        if file or await self.away():
            if followers_go:
                raise Unreachable("PostgreSQL, which keeps the blocked keys, is away: followers cannot be let go")
            return await asyncio.to_thread(self._shelf.change, selection, file, what, why, by)
        return await self._table.change(selection, what, why, by, followers_go=followers_go)

    def _values(self, entry: LetterEntry, redactor: Redactor) -> dict[str, Any]:
        shown = redacted_entry(shown_entry(entry, self._codec), redactor)
        return as_values(shown) | kind_of(entry.letter) | {"file": "", "offset": None}


def _beside(unshipped: Iterable[dict[str, Any]], listed: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Those that were not shipped meanwhile."""
    known = {one["letter_id"] for one in listed}
    return [one for one in unshipped if one["letter_id"] not in known]


def _without(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in LEFT_OUT}
