"""Letters in the fleet's list, for commands, the console and replays: from anywhere, of all instances.

A replay leases each letter that it takes, for a while and under a token of its own, so several replays share the
letters. The leases of a killed replay lapse.
"""

import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg

from unlost.dlq.record.file import DamagedLine
from unlost.dlq.record.letter_state import LetterState, Record, Status, What, later_than
from unlost.dlq.record.query import Selection
from unlost.dlq.store.entries import BYTES_AT_ONCE, LetterEntry, LetterGroup, Statistics
from unlost.dlq.store.port import CHANGEABLE, LetterPage, Plan, TakenLetters, taken_by
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.letter_rows import WHOLE_FINGERPRINT, state_of
from unlost.listener.store.postgres.letters import EVERYTHING, LetterTable
from unlost.listener.store.postgres.taken_letters import ANSWER_SECONDS, FIRST, TableTaken, renewing, unreachable

AT_ONCE = 1000
LIST_BYTES = 16 * 1024 * 1024
NO_LIMIT = 2**62
KEPT_BYTES = 200


class TableLetters:
    """``LetterStore`` over the table ``letters``."""

    def __init__(self, database: Database) -> None:
        self.damages: list[DamagedLine] = []
        self._table = LetterTable(database)
        self._database = database

    @property
    def where(self) -> str:
        """The name of the list."""
        return f"the fleet's list (group {self._database.group})"

    async def ready(self) -> None:
        """Raise ``Unreachable`` unless the list answers, and is there."""
        with unreachable():
            await self._table.fetch("looking for the fleet's list", "ready", Selection())

    async def lacks(self, letter_ids: Sequence[str]) -> set[str]:
        """Return those of these letters that are not in the list."""
        with unreachable():
            return set(await self._table.absent(letter_ids))

    async def latest(self, selection: Selection, limit: int) -> LetterPage:
        """See ``LetterStore``."""
        with unreachable():
            size = LIST_BYTES if limit else NO_LIMIT
            rows, entries = await self._table.read("listing letters", "latest", selection, limit or None, size)
            count = rows[0]["found"] if rows else 0
            if limit and count == limit:
                count = await self._count(selection)
        return LetterPage(tuple(reversed(entries)), count)

    async def _count(self, selection: Selection) -> int:
        """Count letters: from the sums of groups, if no more is asked than a group and states."""
        rest = replace(selection, statuses=frozenset(), fingerprint="")
        if rest.everything and len(selection.fingerprint) in (0, WHOLE_FINGERPRINT):
            (sums,) = await self._table.fetch("counting letters", "count_kept", rest, selection.fingerprint)
            return sum(count for status, count in sums.items() if status in (selection.statuses or sums.keys()))
        (first,) = await self._table.fetch("counting letters", "count", selection)
        return int(first["count"])

    async def each(self, selection: Selection) -> AsyncIterator[Sequence[LetterEntry]]:
        """See ``LetterStore``."""
        place = FIRST, ""
        while True:
            with unreachable():
                rows, entries = await self._table.read(
                    "reading letters", "following", selection, *place, AT_ONCE, BYTES_AT_ONCE
                )
            if not rows:
                return
            place = rows[-1]["last_at"], rows[-1]["letter_id"]
            self.damages += [self._damage(one, row) for one, row in zip(entries, rows, strict=True) if one.unreadable]
            yield [one for one in entries if not one.unreadable]

    def _damage(self, entry: LetterEntry, row: asyncpg.Record) -> DamagedLine:
        line: bytes = row["line"]
        where = Path(f"letter {entry.letter.letter_id} in {self.where}")
        return DamagedLine(where, 0, len(line), entry.unreadable, line[:KEPT_BYTES])

    async def groups(self, selection: Selection) -> list[LetterGroup]:
        """See ``LetterStore``."""
        name = "groups" if selection.everything else "groups_of"
        with unreachable():
            return [LetterGroup(*row) for row in await self._table.fetch("grouping letters", name, selection)]

    async def board(self, selection: Selection = EVERYTHING) -> list[dict[str, Any]]:
        """Return the groups with their states, what heals of each and when next: those that need a human first."""
        name = "board" if selection.everything else "board_of"
        with unreachable():
            rows = await self._table.fetch("grouping letters", name, selection)
        return [
            {**row, "by_state": {name: count for name, count in json.loads(row["by_state"]).items() if count}}
            for row in rows
        ]

    async def statistics(self, selection: Selection) -> Statistics:
        """See ``LetterStore``."""
        with unreachable():
            rows = await self._table.fetch("counting letters", "statistics", selection)
        sums = Statistics()
        for reason, error_class, status, count, first_at, last_at in rows:
            sums.letters += count
            sums.waiting += count if LetterState(status).waits else 0
            sums.by_reason[reason] += count
            sums.by_class[error_class] += count
            sums.by_state[status] += count
            sums.first_at = first_at if sums.first_at is None else min(sums.first_at, first_at)
            sums.last_at = last_at if sums.last_at is None else max(sums.last_at, last_at)
        return sums

    async def blocking(self, selection: Selection) -> int:
        """See ``LetterStore``."""
        with unreachable():
            (row,) = await self._table.fetch("looking for letters that block keys", "blocking", selection)
        count: int = row["count"]
        return count

    async def keys(self, limit: int) -> list[dict[str, Any]]:
        """Return blocked keys, the longest blocked first, each with its letters in all and the first of them."""
        with unreachable():
            async with self._database.acquire("listing blocked keys") as connection:
                return [dict(row) for row in await connection.fetch(self._table.sql["keys"], limit)]

    async def change(
        self, selection: Selection, what: What, detail: str, by: str, *, followers_go: bool = False
    ) -> int:
        """See ``LetterStore``."""
        changed, place, states = 0, "", sorted(CHANGEABLE[what])
        with unreachable():
            while True:
                doing = "choosing letters to change"
                rows = await self._table.fetch(doing, "changeable", selection, place, states, AT_ONCE)
                if not rows:
                    return changed
                place = rows[-1]["letter_id"]
                letter_ids = [row["letter_id"] for row in rows]
                changed += await self._change(letter_ids, what, detail, by, "go" if followers_go else None)

    async def _change(self, letter_ids: Sequence[str], what: What, detail: str, by: str, followers: str | None) -> int:
        async with self._database.acquire("changing letters") as connection, connection.transaction():
            rows = await connection.fetch(self._table.select("lock"), letter_ids)
            now: float = await connection.fetchval("SELECT extract(epoch FROM clock_timestamp())::float8")
            records = [
                Record(row["letter_id"], what, later_than(state_of(row), now), detail, by=by, followers=followers)
                for row in rows
                if row["status"] in CHANGEABLE[what]
            ]
            await self._table.apply(connection, records, shared=False)
            return len(records)

    async def history(self, letter_ids: Sequence[str]) -> dict[str, list[Record]]:
        """See ``LetterStore``."""
        with unreachable():
            return await self._table.history(letter_ids)

    async def plan(self, selection: Selection, limit: int) -> Plan:
        """See ``LetterStore``."""
        with unreachable():
            rows = await self._table.fetch("planning a replay", "plan", selection)
        sums = Plan()
        for reason, handler, status, count in rows:
            if status not in taken_by(selection):
                sums.over[status] += count
            elif reason == "rejected" and not selection.asks_for_rejected:
                sums.over["rejected"] += count
            else:
                taken = min(count, limit - sums.letters) if limit else count
                sums.letters += taken
                if taken:
                    sums.by_reason[reason] += taken
                    sums.handlers[handler] += taken
        return sums

    async def still_answers(self) -> bool:
        """See ``LetterStore``."""
        return await self._database.still_answers(ANSWER_SECONDS)

    @contextlib.asynccontextmanager
    async def replaying(
        self, selection: Selection, limit: int, about: str, takes: frozenset[Status] | None = None
    ) -> AsyncIterator[TakenLetters]:
        """See ``LetterStore``."""
        taken = TableTaken(self._table, selection, limit, about, takes or taken_by(selection))
        async with renewing(self._table, taken.token):
            try:
                yield taken
            finally:
                await taken.close()
