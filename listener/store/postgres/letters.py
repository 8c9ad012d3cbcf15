"""The fleet's list of dead letters: the table ``letters``, to which each listener ships what stands in its files.

A letter is registered as a burial and listed in one transaction. The line of the file is kept byte for byte, so a
replay needs no file. Sums of letters that failed alike are kept by triggers (``0008_letters.sql``), so they cost the
same for ten letters and for a million. What became of a letter is decided by the same function as beside a file
(``dlq/record/sidecar.py``), on locked rows.
"""

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import asyncpg
import msgspec

from unlost.dlq.record.fingerprint import plain
from unlost.dlq.record.letter import Damaged, Letter, decode
from unlost.dlq.record.query import Selection, event_type
from unlost.dlq.record.sidecar import WAITING, Edit, LetterState, Record, Status, after
from unlost.dlq.store.entries import BYTES_AT_ONCE, LetterEntry
from unlost.listener.ports.dead_letters import Burial
from unlost.listener.store.postgres.connections import Connection
from unlost.listener.store.postgres.database import Database

EVERYTHING = Selection()
WHOLE_ID, WHOLE_FINGERPRINT = 28, 12
OF_ONE_ID = 5
"""How often the condition about a part of an id names it."""
OF_A_BEGINNING = 4
SLOW_SECONDS = 60.0
"""The time limit of what may read all letters: exports, filtered sums."""


Read = tuple[list[asyncpg.Record], list[LetterEntry]]


class Listed(msgspec.Struct, frozen=True):
    """A letter to be listed. ``heal_after``: seconds until listeners may retry it by themselves; None: never."""

    letter: Letter
    line: bytes
    burial: Burial | None
    heal_after: float | None = None


class Sums(msgspec.Struct, frozen=True):
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

    async def sums(self) -> Sums:
        """Return what waits. It costs the same for ten letters and for a million."""
        async with self.database.acquire("counting letters") as connection:
            row = await connection.fetchrow(self.sql["sums"])
        return Sums() if row is None else Sums(*row)

    async def absent(self, letter_ids: Sequence[str]) -> set[str]:
        """Return those of these letters that are not listed."""
        async with self.database.acquire("looking for listed letters") as connection:
            return {row["one"] for row in await connection.fetch(self.sql["absent"], letter_ids)}

    async def add(self, instance: str, letters: Sequence[Listed]) -> None:
        """List letters of an instance and register their burials, in one transaction. Listed ones stay as they are."""
        async with self.database.acquire("listing dead letters") as connection, connection.transaction():
            for burials in _each_claim_once([one.burial for one in letters if one.burial]):
                await connection.fetch(
                    self._burials["enter"], self._token,
                    [one.claim_id for one in burials], [one.digest for one in burials],
                    [one.letter_id for one in burials], [one.claimed for one in burials],
                    [one.order_key for one in burials],
                )  # fmt: skip
            await connection.execute(self.sql["add"], instance, *_columns(letters))

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
        newest = _newest_edits(known, states, changed)
        # A replay does the same to many letters at once. So the ids alone differ, and one statement serves them all.
        for record, ids in _alike((_record_values(one), one.letter_id) for one in known):
            await connection.execute(self.sql["log"], ids, *record, shared)
        for state, ids in _alike((_state_values(state, one in anew), one) for one, state in changed.items()):
            await connection.execute(self.sql["change"], ids, *state)
        if newest:
            await connection.execute(self.sql["edit"], list(newest), list(newest.values()))
        over = [letter_id for letter_id, state in changed.items() if state.status == "resolved"]
        if over := over + [one.letter_id for one in known if one.followers == "go"]:
            await connection.execute(self.sql["unblock"], over)
        return len(changed)

    async def prune(self, before: float, *, most: int = 5_000) -> int:
        """Delete resolved letters that changed last before this epoch second; return how many, at most ``most``."""
        async with self.database.acquire("deleting resolved letters") as connection:
            deleted: int = await connection.fetchval(self.sql["prune"], before, most, timeout=SLOW_SECONDS)
        return deleted

    async def to_share(self, instance: str, most: int) -> list[Record]:
        """Return what happened to this instance's letters elsewhere, and is not in its file."""
        async with self.database.acquire("looking for changes of letters") as connection:
            return list(map(_record_of, await connection.fetch(self.sql["to_share"], instance, most, BYTES_AT_ONCE)))

    async def history(self, letter_ids: Sequence[str]) -> dict[str, list[Record]]:
        """Return everything that happened to these letters, oldest first."""
        found: dict[str, list[Record]] = {}
        async with self.database.acquire("reading what became of letters") as connection:
            for row in await connection.fetch(self.sql["history"], letter_ids, timeout=SLOW_SECONDS):
                found.setdefault(row["letter_id"], []).append(_record_of(row))
        return found

    async def shared(self, records: Sequence[Record]) -> None:
        """Note that these records are in the file of the letters' owner now."""
        async with self.database.acquire("noting shared changes of letters") as connection:
            await connection.execute(
                self.sql["shared"], [one.letter_id for one in records], [one.at for one in records],
                [one.what for one in records],
            )  # fmt: skip

    async def entries(self, connection: Connection, rows: Sequence[asyncpg.Record]) -> list[LetterEntry]:
        """Return the letters of rows with their lines. Of one that cannot be read, what else the list knows."""
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
            found[about["letter_id"]] = _unread(damaged[about["letter_id"]][0], about, damaged[about["letter_id"]][1])
        return [found[row["letter_id"]] for row in rows if row["letter_id"] in found]

    # -- composing queries ----------------------------------------------------------------------

    def select(
        self, name: str, selection: Selection = EVERYTHING, *first: Any, takes: Iterable[Status] = WAITING
    ) -> str:
        """Return a statement with the conditions of a selection, whose arguments follow ``first``.

        ``takes``: the states of the letters that it is about, for a statement that names them.
        """
        number = itertools.count(len(first) + 1)
        conditions = (
            " OR ".join([self.sql[f"where_{name}"]] * (len(given) // self.sql[f"where_{name}"].count("?")))
            for name, given in _conditions(selection)
        )
        selected = re.sub(r"\?", lambda _: f"${next(number)}", " AND ".join(f"({one})" for one in conditions)) or "true"
        parts = {"state": self.sql["state"], "size": self.sql["size"], "selected": selected, "takes": _quoted(takes)}
        return re.sub(r"\{(\w+)\}", lambda found: parts[found[1]], self.sql[name])

    async def fetch(
        self, doing: str, name: str, selection: Selection, *first: Any, takes: Iterable[Status] = WAITING
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
        self, connection: Connection, name: str, selection: Selection, *first: Any, takes: Iterable[Status] = WAITING
    ) -> list[asyncpg.Record]:
        arguments = [argument for _, given in _conditions(selection) for argument in given]
        found: list[asyncpg.Record] = await connection.fetch(
            self.select(name, selection, *first, takes=takes), *first, *arguments, timeout=SLOW_SECONDS
        )
        return found


def _conditions(selection: Selection) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """The conditions of a selection by name, each with its arguments: once, or once for each alternative."""
    for name in ("reasons", "error_classes", "types", "error_types", "statuses", "assigned"):
        if wanted := getattr(selection, name):
            yield name, (sorted(wanted),)
    if len(selection.fingerprint) >= WHOLE_FINGERPRINT:
        yield "fingerprint", (selection.fingerprint,)
    elif selection.fingerprint:
        yield "fingerprint_begins", (selection.fingerprint, selection.fingerprint)
    given: dict[str, Sequence[Any]] = {
        "since": [one for one in (selection.since,) if one is not None],
        "until": [one for one in (selection.until,) if one is not None],
        "begins": [_text(selection.begins)] * OF_A_BEGINNING if selection.begins else [],
        "text": [_text(selection.text)] if selection.text else [],
        "payload": selection.payload,
    }
    yield from ((name, tuple(values)) for name, values in given.items() if values)
    if selection.ids:
        ids = [_text(one) for one in selection.ids]
        whole = all(len(one) >= WHOLE_ID for one in selection.ids)
        yield ("whole_ids", (ids, ids)) if whole else ("id", tuple(one for one in ids for _ in range(OF_ONE_ID)))


def _columns(letters: Sequence[Listed]) -> tuple[list[Any], ...]:
    found = [one.letter for one in letters]
    return (
        [one.letter_id for one in found],
        [_text(one.event_id) for one in found],
        [_text(event_type(one)) for one in found],
        [one.reason for one in found],
        [one.error_class for one in found],
        [one.stage for one in found],
        [_text(one.error_type) for one in found],
        [_text(one.message) for one in found],
        [one.fingerprint for one in found],
        [one.handler for one in found],
        [_text(one.route) for one in found],
        [one.first_at for one in found],
        [one.last_at for one in found],
        [one.line for one in letters],
        [one.heal_after for one in letters],
    )


def _text(value: str | None) -> str | None:
    """A text that PostgreSQL can hold. The line has it as it was."""
    return None if value is None else plain(value).replace("\x00", "\ufffd")


def _record_values(one: Record) -> tuple[Any, ...]:
    made = one.edit
    edit = (None,) * 4 if made is None else (made.version, made.base, _text(made.how), made.event)
    return one.at, one.what, _text(one.detail), _text(one.error_type), _text(one.by), *edit, _text(one.followers)


def _record_of(row: asyncpg.Record) -> Record:
    made = None if row["event"] is None else Edit(row["version"], row["base"], row["how"], row["event"])
    return Record(
        row["letter_id"], row["what"], row["at"], row["detail"], row["error_type"], row["done_by"], made,
        row["followers"],
    )  # fmt: skip


def _newest_edits(
    records: Iterable[Record], before: Mapping[str, LetterState], now: Mapping[str, LetterState]
) -> dict[str, bytes]:
    """The events of versions that are the newest now, and were not before."""
    newest: dict[str, bytes] = {}
    for one in records:
        state = now.get(one.letter_id)
        if (
            state is not None
            and one.edit is not None
            and (one.edit.version, one.at) == (state.version, state.edited_at)
        ):
            newest[one.letter_id] = one.edit.event
    return {one: event for one, event in newest.items() if before[one].edited_at != now[one].edited_at}


def _quoted(statuses: Iterable[Status]) -> str:
    return ", ".join(f"'{one}'" for one in sorted(statuses))


def state_of(row: asyncpg.Record) -> LetterState:
    """The state of a letter, from a row with what ``state`` names."""
    return LetterState(
        row["status"], row["replays"], row["at"], row["detail"], row["state_error_type"], row["state_by"],
        row["reopened_at"], row["version"], row["edited_at"], row["assigned"], row["assigned_at"],
    )  # fmt: skip


def _state_values(state: LetterState, anew: bool) -> tuple[Any, ...]:
    return (
        state.status, state.replays, state.at, _text(state.detail), _text(state.error_type), _text(state.by),
        state.reopened_at, state.version, state.edited_at, _text(state.assigned), state.assigned_at, anew,
    )  # fmt: skip


def _alike(found: Iterable[tuple[tuple[Any, ...], str]]) -> list[tuple[tuple[Any, ...], list[str]]]:
    """Letters by what they have in common, in the order of what happened."""
    known: dict[tuple[Any, ...], list[str]] = {}
    for values, letter_id in found:
        known.setdefault(values, []).append(letter_id)
    return list(known.items())


def _unread(row: asyncpg.Record, about: asyncpg.Record, why: str) -> LetterEntry:
    """The columns of a letter whose line cannot be read."""
    letter = Letter(
        letter_id=about["letter_id"], event_id=about["event_id"], reason=about["reason"],
        error_class=about["error_class"], stage=about["stage"], event=None, raw=None, attempts=(),
        error_type=about["error_type"], message=f"this letter cannot be read: {why}", sqlstate=None,
        fingerprint=about["fingerprint"], first_at=about["first_at"], last_at=about["last_at"],
        instance=about["instance_id"], epoch=0, mode="normal", cursor=None, source=None, handler=about["handler"],
        route=about["route"],
    )  # fmt: skip
    return LetterEntry(letter, state_of(row), unreadable=why)


def _each_claim_once(burials: Sequence[Burial]) -> Iterator[list[Burial]]:
    left = list(burials)
    while left:
        first: dict[str, Burial] = {}
        for one in left:
            first.setdefault(one.claim_id, one)
        yield list(first.values())
        left = [one for one in left if first[one.claim_id] is not one]
