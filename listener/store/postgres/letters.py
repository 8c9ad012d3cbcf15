"""The fleet's list of dead letters: the table ``letters``, to which each listener ships what stands in its files.

A letter is registered as a burial and listed in one transaction. The line of the file is kept byte for byte, so a
replay needs no file. Sums of letters that failed alike are kept by triggers (``0008_letters.sql``), so they cost the
same for ten letters and for a million. The same function decides about changes of a letter as beside a file
(``dlq/record/sidecar.py``), on locked rows.
"""

import itertools
import re
from collections.abc import Sequence
from typing import Any

import asyncpg
import msgspec

from unlost.dlq.record.letter_line import Damaged, decode
from unlost.dlq.record.letter_state import LetterState, Record, Status, after
from unlost.dlq.record.query import Selection
from unlost.dlq.store.entries import BYTES_AT_ONCE, LetterEntry
from unlost.listener.ports.dead_letters import each_claim_once
from unlost.listener.store.postgres.connections import Connection
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.letter_rows import (
    Listed,
    alike,
    columns,
    conditions,
    newest_edits,
    only_waiting,
    quoted,
    record_of,
    record_values,
    state_of,
    state_values,
    unread,
)

EVERYTHING = Selection()
ANY_STATUS: frozenset[Status] = frozenset()
SLOW_SECONDS = 60.0
"""The time limit of what may read all letters: exports, filtered sums."""


Read = tuple[list[asyncpg.Record], list[LetterEntry]]


class LetterTotals(msgspec.Struct, frozen=True):
    """Counts of the whole list: waiting letters, those that heal, and those that need a human, with times.

    ``blocked_keys``: how many keys a letter blocks; ``blocked_since``: since when the longest.
    """

    waiting: int = 0
    healing: int = 0
    next_at: float | None = None
    oldest_at: float | None = None
    blocked_keys: int = 0
    blocked_since: float | None = None

    @property
    def needing_human(self) -> int:
        """How many letters wait for a human."""
        return self.waiting - self.healing


class LetterTable:
    """The table ``letters`` of one group."""

    def __init__(self, database: Database, *, token: str = "") -> None:
        """Make one. ``token``: in whose name burials are entered."""
        self.database = database
        self._token = token
        self.sql = database.statements("unlost.listener.store.postgres", "letters.sql")
        self._burials = database.statements("unlost.listener.store.postgres", "burials.sql")

    # -- what a listener ships ------------------------------------------------------------------

    async def last_loss(self) -> str:
        """Return the name of PostgreSQL's last loss of rows, after which letters may be missing too."""
        async with self.database.acquire("asking what PostgreSQL may have lost") as connection:
            row = await connection.fetchrow(self._burials["lost_since"], "")
        return str(row["id"] or "") if row is not None else ""

    async def sums(self) -> LetterTotals:
        """Return what waits. It costs the same for ten letters and for a million."""
        async with self.database.acquire("counting letters") as connection:
            row = await connection.fetchrow(self.sql["sums"])
        return LetterTotals() if row is None else LetterTotals(*row)

    async def absent(self, letter_ids: Sequence[str]) -> set[str]:
        """Return those of these letters that are not listed."""
        async with self.database.acquire("looking for listed letters") as connection:
            return {row["one"] for row in await connection.fetch(self.sql["absent"], letter_ids)}

    async def add(self, instance: str, letters: Sequence[Listed], records: Sequence[Record] = ()) -> None:
        """List letters of an instance and register their burials, in one transaction. Listed ones stay as they are.

        ``records``: what else is known of them, such as versions of their events.
        """
        async with self.database.acquire("listing dead letters") as connection, connection.transaction():
            for burials in each_claim_once([one.burial for one in letters if one.burial]):
                await connection.fetch(
                    self._burials["enter"], self._token,
                    [one.claim_id for one in burials], [one.digest for one in burials],
                    [one.letter_id for one in burials], [one.claimed for one in burials],
                    [one.order_key for one in burials], [one.stops for one in burials],
                )  # fmt: skip
            await connection.execute(self.sql["add"], instance, *columns(letters))
            if records:
                await self.apply(connection, records, shared=True)

    async def note(self, records: Sequence[Record], *, shared: bool) -> int:
        """Record what happened to listed letters; return how many letters have another state now.

        ``shared``: the records stand in the file of the letter's owner already.
        """
        async with self.database.acquire("recording what became of letters") as connection, connection.transaction():
            return await self.apply(connection, records, shared=shared)

    async def apply(self, connection: Connection, records: Sequence[Record], *, shared: bool) -> int:
        """``note`` in a transaction of the caller."""
        ids = sorted({one.letter_id for one in records})
        rows = {row["letter_id"]: row for row in await connection.fetch(self.select("lock"), ids)}
        known = [one for one in records if one.letter_id in rows]
        states = {letter_id: state_of(row) for letter_id, row in rows.items()}
        changed = dict[str, LetterState]()
        anew = set[str]()
        for one in known:
            before = changed.get(one.letter_id, states[one.letter_id])
            changed[one.letter_id] = after(before, one)
            if one.what in ("restored", "reopened"):
                anew.add(one.letter_id)
        changed = {letter_id: state for letter_id, state in changed.items() if state != states[letter_id]}
        newest = newest_edits(known, states, changed)
        # A replay does the same to many letters at once. So the ids alone differ, and one statement serves them all.
        for record, ids in alike((record_values(one), one.letter_id) for one in known):
            await connection.execute(self.sql["log"], ids, *record, shared)
        for state, ids in alike((state_values(state, one in anew), one) for one, state in changed.items()):
            await connection.execute(self.sql["change"], ids, *state)
        if newest:
            await connection.execute(self.sql["edit"], list(newest), list(newest.values()))
        over = [letter_id for letter_id, state in changed.items() if state.status == "resolved"]
        if over := over + [one.letter_id for one in known if one.followers == "go"]:
            await connection.execute(self.sql["unblock"], over)
        return len(changed)

    async def resolve(self, connection: Connection, records: Sequence[Record], token: str) -> Sequence[Record]:
        """Resolve letters whose events are rows, and free them, in few statements; return the records that are left.

        Those are of another kind, or of letters that are resolved already: ``apply`` decides about them.
        """
        quick = {one.letter_id: one for one in records if one.what == "resolved" and one.error_type is None}
        for values, letter_ids in alike((record_values(one), letter_id) for letter_id, one in quick.items()):
            at, _, detail, _, by, *_ = values
            done = await connection.fetch(self.sql["resolve"], letter_ids, at, detail, by, token)
            for row in done:
                del quick[row["letter_id"]]
        return [
            one for one in records if one.what != "resolved" or one.letter_id in quick or one.error_type is not None
        ]

    async def prune(self, before: float, *, most: int = 5_000) -> int:
        """Delete resolved letters that changed last before this epoch second; return how many, at most ``most``."""
        async with self.database.acquire("deleting resolved letters") as connection:
            deleted: int = await connection.fetchval(self.sql["prune"], before, most, timeout=SLOW_SECONDS)
        return deleted

    async def to_share(self, instance: str, most: int) -> list[Record]:
        """Return what happened to this instance's letters elsewhere, and is not in its file."""
        async with self.database.acquire("looking for changes of letters") as connection:
            return list(map(record_of, await connection.fetch(self.sql["to_share"], instance, most, BYTES_AT_ONCE)))

    async def history(self, letter_ids: Sequence[str]) -> dict[str, list[Record]]:
        """Return everything that happened to these letters, oldest first."""
        found: dict[str, list[Record]] = {}
        async with self.database.acquire("reading what became of letters") as connection:
            for row in await connection.fetch(self.sql["history"], letter_ids, timeout=SLOW_SECONDS):
                found.setdefault(row["letter_id"], []).append(record_of(row))
        return found

    async def shared(self, records: Sequence[Record]) -> None:
        """Note that these records are in the file of the letters' owner now."""
        async with self.database.acquire("noting shared changes of letters") as connection:
            await connection.execute(
                self.sql["shared"], [one.letter_id for one in records], [one.at for one in records],
                [one.what for one in records],
            )  # fmt: skip

    async def entries(self, connection: Connection, rows: Sequence[asyncpg.Record]) -> list[LetterEntry]:
        """Return the letters of rows with their lines, or what else the list knows if a line cannot be read."""
        found: dict[str, LetterEntry] = {}
        damaged: dict[str, tuple[asyncpg.Record, str]] = {}
        for row in rows:
            try:
                found[row["letter_id"]] = LetterEntry(decode(row["line"]), state_of(row), edited=row["edited"])
            except Damaged as error:
                damaged[row["letter_id"]] = row, str(error)
        if not damaged:
            return list(found.values())
        for about in await connection.fetch(self.sql["described"], list(damaged)):
            found[about["letter_id"]] = unread(damaged[about["letter_id"]][0], about, damaged[about["letter_id"]][1])
        return [found[row["letter_id"]] for row in rows if row["letter_id"] in found]

    # -- composing queries ----------------------------------------------------------------------

    def select(
        self, name: str, selection: Selection = EVERYTHING, *first: Any, takes: frozenset[Status] = ANY_STATUS
    ) -> str:
        """Return a statement with the conditions of a selection, whose arguments follow ``first``.

        ``takes``: the states of the letters that it is about, for a statement that names them.
        """
        number = itertools.count(len(first) + 1)
        chosen = (
            " OR ".join([self.sql[f"where_{name}"]] * (len(given) // self.sql[f"where_{name}"].count("?")))
            for name, given in conditions(selection)
        )
        selected = re.sub(r"\?", lambda _: f"${next(number)}", " AND ".join(f"({one})" for one in chosen)) or "true"
        waiting = only_waiting(takes or selection.statuses)
        parts = {
            "takes": quoted(takes),
            "t": "l" if waiting else "d",
            "ordered": self.sql["letters" if waiting else "letters_by_details"],
            **{part: self.sql[part] for part in ("letters", "state", "size")},
        }
        statement = self.sql[name].replace("{selected}", selected)
        return re.sub(r"\{(\w+)\}", lambda found: parts[found[1]], statement)

    async def fetch(
        self, doing: str, name: str, selection: Selection, *first: Any, takes: frozenset[Status] = ANY_STATUS
    ) -> list[asyncpg.Record]:
        """Run a query about selected letters."""
        async with self.database.acquire(doing) as connection:
            return await self._fetch(connection, name, selection, *first, takes=takes)

    async def read(self, doing: str, name: str, selection: Selection, *first: Any) -> Read:
        """Run a query that returns lines; return its rows, and the letter of each."""
        async with self.database.acquire(doing) as connection:
            rows = await self._fetch(connection, name, selection, *first)
            return rows, await self.entries(connection, rows)

    async def _fetch(
        self,
        connection: Connection,
        name: str,
        selection: Selection,
        *first: Any,
        takes: frozenset[Status] = ANY_STATUS,
    ) -> list[asyncpg.Record]:
        arguments = [argument for _, given in conditions(selection) for argument in given]
        found: list[asyncpg.Record] = await connection.fetch(
            self.select(name, selection, *first, takes=takes), *first, *arguments, timeout=SLOW_SECONDS
        )
        return found
