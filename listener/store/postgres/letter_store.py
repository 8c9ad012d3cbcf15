"""Letters in the fleet's list, for commands, the console and replays: from anywhere, of all instances.

A replay leases each letter that it takes, for a while and under a token of its own, so several replays share the
letters. The leases of a killed replay lapse.
"""

import asyncio
import contextlib
import datetime
import json
import secrets
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg

from unlost.dlq.record.file import DamagedLine
from unlost.dlq.record.query import Selection
from unlost.dlq.record.sidecar import LetterState, Record, Status, What, later_than
from unlost.dlq.store.entries import BYTES_AT_ONCE, LetterEntry, LetterGroup, Statistics
from unlost.dlq.store.port import CHANGEABLE, LetterPage, Plan, TakenLetters, Unreachable, taken_by
from unlost.listener.core.errors import Misconfigured, Permanent, Transient
from unlost.listener.store.postgres.connections import Connection
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.errors import LIBRARY_ERRORS
from unlost.listener.store.postgres.letter_rows import WHOLE_FINGERPRINT, state_of
from unlost.listener.store.postgres.letters import EVERYTHING, LetterTable

AT_ONCE = 1000
LIST_BYTES = 16 * 1024 * 1024
NO_LIMIT = 2**62
KEPT_BYTES = 200
LEASE_SECONDS = 30.0
ANSWER_SECONDS = 1.0
"""How long a replay that gives up waits for PostgreSQL once more, to free its leases. They end by themselves too."""
FIRST = datetime.datetime.min.replace(tzinfo=datetime.UTC)


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
        with _unreachable():
            await self._table.fetch("looking for the fleet's list", "ready", Selection())

    async def lacks(self, letter_ids: Sequence[str]) -> set[str]:
        """Return those of these letters that are not in the list."""
        with _unreachable():
            return set(await self._table.absent(letter_ids))

    async def latest(self, selection: Selection, limit: int) -> LetterPage:
        """See ``LetterStore``."""
        with _unreachable():
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
            with _unreachable():
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
        with _unreachable():
            return [LetterGroup(*row) for row in await self._table.fetch("grouping letters", name, selection)]

    async def board(self, selection: Selection = EVERYTHING) -> list[dict[str, Any]]:
        """Return the groups with their states, what heals of each and when next: those that need a human first."""
        name = "board" if selection.everything else "board_of"
        with _unreachable():
            rows = await self._table.fetch("grouping letters", name, selection)
        return [
            {**row, "by_state": {name: count for name, count in json.loads(row["by_state"]).items() if count}}
            for row in rows
        ]

    async def statistics(self, selection: Selection) -> Statistics:
        """See ``LetterStore``."""
        with _unreachable():
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
        with _unreachable():
            (row,) = await self._table.fetch("looking for letters that block keys", "blocking", selection)
        count: int = row["count"]
        return count

    async def keys(self, limit: int) -> list[dict[str, Any]]:
        """Return blocked keys, the longest blocked first, each with its letters in all and the first of them."""
        with _unreachable():
            async with self._database.acquire("listing blocked keys") as connection:
                return [dict(row) for row in await connection.fetch(self._table.sql["keys"], limit)]

    async def change(
        self, selection: Selection, what: What, detail: str, by: str, *, followers_go: bool = False
    ) -> int:
        """See ``LetterStore``."""
        changed, place, states = 0, "", sorted(CHANGEABLE[what])
        with _unreachable():
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
        with _unreachable():
            return await self._table.history(letter_ids)

    async def plan(self, selection: Selection, limit: int) -> Plan:
        """See ``LetterStore``."""
        with _unreachable():
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
            yield taken


class TableTaken:
    """``TakenLetters``: each letter is leased for a while, in the name of one replay."""

    def __init__(
        self, table: LetterTable, selection: Selection, limit: int, about: str, takes: frozenset[Status]
    ) -> None:
        self.elsewhere = self.unreadable = 0
        self._table = table
        self._takes = takes
        self._sql = table.sql
        self._selection = selection
        self._left = limit
        self._limited = bool(limit)
        self._about = about
        self.token = secrets.token_hex(8)
        self._place = FIRST, ""

    async def take(self, most: int) -> Sequence[LetterEntry]:
        """See ``TakenLetters``."""
        with _unreachable():
            while most := min(most, self._left) if self._limited else most:
                rows = await self._table.fetch(
                    "choosing letters", "next", self._selection, *self._place, self.token, most,
                    self._selection.asks_for_rejected, BYTES_AT_ONCE, takes=self._takes,
                )  # fmt: skip
                if not rows:
                    break
                self._place = rows[-1]["last_at"], rows[-1]["letter_id"]
                self.elsewhere += sum(row["held"] for row in rows)
                free = [row["letter_id"] for row in rows if not row["held"]]
                if free and (taken := await self._lease(free)):
                    self._left -= len(taken)
                    return taken
        return ()

    async def _lease(self, letter_ids: Sequence[str]) -> list[LetterEntry]:
        """Lease letters, and read them only then: another replay may have ended one meanwhile."""
        async with self._table.database.acquire("leasing letters") as connection:
            leased = await connection.fetch(self._sql["lease"], letter_ids, self.token, self._about, LEASE_SECONDS)
            ids = [row["letter_id"] for row in leased]
            rows = await connection.fetch(self._table.select("taken"), ids, sorted(self._takes))
            found = await self._table.entries(connection, rows)
            entries = [one for one in found if not one.unreadable]
            waiting = {one.letter.letter_id for one in entries}
            if over := [one for one in ids if one not in waiting]:
                await connection.execute(self._sql["free"], over, self.token)
        self.elsewhere += len(letter_ids) - len(ids)
        self.unreadable += len(found) - len(entries)
        return entries

    async def record(self, records: Sequence[Record]) -> int:
        """See ``TakenLetters``."""
        with _unreachable():
            async with self._table.database.acquire("recording a replay") as connection, connection.transaction():
                made = await in_time(self._table, connection, records, self.token)
                late = len(records) - len(made)
                if left := await self._table.resolve(connection, made, self.token):
                    await self._table.apply(connection, left, shared=False)
                if left or late:
                    await connection.execute(self._sql["free"], [one.letter_id for one in records], self.token)
        self.elsewhere += late
        return late

    async def free(self, letter_ids: Sequence[str]) -> None:
        """See ``TakenLetters``."""
        with _unreachable():
            async with self._table.database.acquire("freeing letters") as connection:
                await connection.execute(self._sql["free"], letter_ids, self.token)


async def in_time(
    table: LetterTable, connection: Connection, records: Sequence[Record], token: str
) -> Sequence[Record]:
    """Return the records without edits of letters that are resolved, or leased by another, meanwhile."""
    if not (edited := [one.letter_id for one in records if one.what == "edited"]):
        return records
    await connection.execute(table.sql["renew"], token, LEASE_SECONDS)  # nobody takes one before this ends
    late = {row["letter_id"] for row in await connection.fetch(table.sql["too_late"], edited, token)}
    return [one for one in records if one.what != "edited" or one.letter_id not in late]


@contextlib.asynccontextmanager
async def renewing(table: LetterTable, token: str) -> AsyncIterator[None]:
    """Renew the leases of one replay, and end them with it."""
    keeping = asyncio.create_task(_renew(table, token), name="renew leases of letters")
    try:
        yield
    finally:
        keeping.cancel()
        await asyncio.wait({keeping})
        with contextlib.suppress(Transient, Permanent, Misconfigured):
            async with table.database.acquire("freeing letters") as connection:
                await connection.execute(table.sql["free_all"], token)


async def _renew(table: LetterTable, token: str) -> None:
    """Renew until cancelled. If that fails for too long, the claims still keep two replays apart."""
    while True:
        await asyncio.sleep(LEASE_SECONDS / 3)
        with contextlib.suppress(Transient, Permanent):
            async with table.database.acquire("renewing leases of letters") as connection:
                await connection.execute(table.sql["renew"], token, LEASE_SECONDS)


@contextlib.contextmanager
def _unreachable() -> Iterator[None]:
    try:
        yield
    except (Transient, Permanent, Misconfigured, *LIBRARY_ERRORS) as error:
        raise Unreachable(f"the fleet's list cannot be used: {error}") from error
