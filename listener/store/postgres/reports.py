"""Queries on a group's tables for operators' tools: the audit, the console, ``unlost top``, drills and measurements.

No tool has its own SQL on our tables (``tests/unit/test_folders.py``): further queries are added here.
"""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import asyncpg

from unlost.dlq.record.letter_state import clean_detail
from unlost.listener.store.postgres.connections import Connection
from unlost.listener.store.postgres.database_name import name_of_database
from unlost.listener.store.postgres.statements import DEFAULT_GROUP, schema_of, statements


class AuditedRow(NamedTuple):
    """The columns of a row that the audit needs. ``handler``: the one that processed it, if any."""

    event_id: str
    seq: int
    digest: bytes
    handler: str | None


class KnownListener(NamedTuple):
    """One listener's name: when it reported last, its starts in ten minutes, and how many of them are alive."""

    instance_id: str
    seen_at: float
    starts: int
    alive: int


class DeclaredGap(NamedTuple):
    """Events of a source that a listener did not receive. Times are epoch seconds."""

    source: str
    how: str
    instance: str
    after: str | None
    resumed_at: str | None
    missing: int | None
    backfilled: int
    began_at: float
    declared_at: float
    outcome: str | None = None
    """The outcome of fetching its events: ``filled``, ``partly``, ``failed``; None: not yet, or not fetched."""
    fetches: int = 0
    why: str = ""


class LetterCount(NamedTuple):
    """How many letters failed alike in the span with this number."""

    number: int
    fingerprint: str
    letters: int
    reason: str
    error_type: str


def report(name: str, group: str = DEFAULT_GROUP) -> str:
    """The text of a statement, for ``psql``."""
    return statements("unlost.listener.store.postgres", "reports.sql", schema_of(group))[name]


class Reports:
    """Asks on one connection. Errors are those of ``asyncpg``. Without a ``timeout``, the connection's own counts."""

    def __init__(self, connection: Connection, group: str = DEFAULT_GROUP, *, timeout: float | None = None) -> None:
        self._connection = connection
        self._group = group
        self._timeout = timeout

    async def database(self) -> str:
        """The short name of the database, by which a producer distinguishes groups with the same name."""
        return await name_of_database(self._connection)

    async def rows(self, event_ids: Sequence[str]) -> list[AuditedRow]:
        """Those of these events that have rows."""
        return [AuditedRow(*row) for row in await self._fetch("audited", list(event_ids))]

    async def whole_row(self, event_id: str) -> dict[str, Any] | None:
        """All columns of an event's row; JSON is decoded."""
        await self._connection.set_type_codec("jsonb", schema="pg_catalog", encoder=json.dumps, decoder=json.loads)
        found = await self._fetch("whole_row", event_id)
        return dict(found[0].items()) if found else None

    async def first_handled(self) -> int | None:
        """The number of the first row that a handler processed."""
        found = await self._fetch("first_handled")
        return found[0][0] if found else None

    async def gaps(self, most: int) -> list[DeclaredGap]:
        """The declared gaps, the latest first."""
        return [DeclaredGap(*row) for row in await self._fetch("gaps", most)]

    async def count_gaps(self) -> int:
        """How many gaps were declared."""
        return int(await self._value("count_gaps"))

    async def last_seq(self) -> int:
        """The number of the last row; 0 if there is none."""
        return int(await self._value("last_seq"))

    async def row_from(self, seq: int) -> tuple[int, float] | None:
        """The first row from this number on: its number, and when it was processed."""
        found = await self._fetch("row_from", seq)
        return (found[0][0], found[0][1]) if found else None

    async def types_in_time(
        self, first: int, last: int, step: int, begin: float, width: float
    ) -> list[tuple[int, str | None, int]]:
        """Count each ``step``-th row by type and by spans of ``width`` seconds since ``begin``."""
        return [tuple(row) for row in await self._fetch("types_in_time", first, last, step, begin, width)]

    async def letters_in_time(self, begin: float, width: float, most: int) -> list[LetterCount]:
        """Count the latest letters by failure and by spans of ``width`` seconds since ``begin``."""
        return [LetterCount(*row) for row in await self._fetch("letters_in_time", begin, width, most)]

    async def letter_sums(self) -> dict[str, Any]:
        """The fleet's letters by state, and what of them heals by itself."""
        return dict((await self._fetch("letter_sums"))[0].items())

    async def letter_kinds(self, most: int) -> list[tuple[str, str, str, str, int]]:
        """The failures of most letters that need a human: fingerprint, reason, stage, error type, letters."""
        return [tuple(row) for row in await self._fetch("letter_kinds", most)]

    async def open_letters(self) -> dict[str, str]:
        """All unresolved letters of the fleet's list, each with its event's id, if it has one."""
        return dict(await self._fetch("open_letters"))

    async def unresolved_letters(self) -> dict[str, str]:
        """The unresolved letters of accepted events in the fleet's list, each with its event's id."""
        return dict(await self._fetch("unresolved_letters"))

    async def listed_letters(self, letter_ids: Sequence[str]) -> set[str]:
        """Those of these letters that are in the fleet's list."""
        return {row[0] for row in await self._fetch("listed_letters", list(letter_ids))}

    async def letters_of(self, event_id: str) -> list[dict[str, Any]]:
        """The letters of an event in the fleet's list: each line, with its state."""
        return [_cleaned(row) for row in await self._fetch("letters_of", event_id)]

    async def records_of(self, event_id: str) -> list[dict[str, Any]]:
        """Everything that happened to an event's letters, and who did it."""
        return [_cleaned(row) for row in await self._fetch("records_of", event_id)]

    async def cursors(self) -> list[str]:
        """The group's cursors, of all sources, the latest first. Everything up to a cursor is settled."""
        return [row[0] for row in await self._fetch("cursors")]

    async def is_read(self) -> bool:
        """Whether the group has a live listener."""
        return bool(await self._value("is_read"))

    async def members(self) -> list[KnownListener]:
        """The group's listeners, by name."""
        return [KnownListener(*row) for row in await self._fetch("members")]

    async def how_many(self, exactly: int) -> int:
        """How many rows there are; more than ``exactly`` are estimated."""
        return int(await self._value("how_many", exactly))

    async def contents(self) -> list[tuple[str, str]]:
        """Every row's id, and its payload as JSON text."""
        return [(row[0], row[1]) for row in await self._fetch("contents")]

    async def rows_of_drill(self, prefix: str) -> list[tuple[str, float, float, int]]:
        """The rows whose ids begin so: id, when received, when processed, epoch."""
        return [(row[0], row[1], row[2], row[3]) for row in await self._fetch("rows_of_drill", prefix)]

    async def count_of_drill(self, prefix: str) -> int:
        """How many rows have ids that begin so."""
        return int(await self._value("count_of_drill", prefix))

    async def ids(self) -> set[str]:
        """The ids of all rows."""
        return {row[0] for row in await self._fetch("ids")}

    async def lock_rows(self) -> None:
        """Keep everybody else from the table of events until the transaction ends."""
        await self._execute("lock_rows")

    async def newest(self) -> int:
        """The number of the newest row."""
        return int(await self._value("newest"))

    async def count_after(self, seq: int) -> int:
        """How many rows came after this one."""
        return int(await self._value("count_after", seq))

    async def distinct_after(self, seq: int) -> tuple[int, int]:
        """How many rows came after this one, and how many ids they have."""
        (row,) = await self._fetch("distinct_after", seq)
        return row[0], row[1]

    async def span_after(self, seq: int) -> float:
        """Seconds from the first receipt to the last row, of the rows after this one."""
        return float(await self._value("span_after", seq))

    async def transactions_after(self, seq: int) -> dict[str, int]:
        """Which transaction wrote each of the rows after this one."""
        return {row[0]: row[1] for row in await self._fetch("transactions_after", seq)}

    async def effects(
        self, before: int = 2**63 - 1, *, status: str | None = None, event_id: str | None = None, limit: int = 50
    ) -> list[dict[str, Any]]:
        """Effects, the newest first, with a ``seq`` below ``before``; of one status or event, if given."""
        return [dict(row) for row in await self._fetch("effects", before, status, event_id, limit)]

    async def effects_by_host(self) -> list[dict[str, Any]]:
        """The effects that wait for each host: how many, since when, and the last failure."""
        return [dict(row) for row in await self._fetch("effects_by_host")]

    async def truncate_rows(self) -> None:
        """Delete all rows."""
        await self._execute("truncate_rows")

    async def truncate_letters(self) -> None:
        """Delete all letters."""
        await self._execute("truncate_letters")

    async def fill(self, first: int, last: int) -> None:
        """Insert rows of no event, numbered so."""
        await self._execute("fill", first, last)

    async def analyze_rows(self) -> None:
        """Clean the table of events, and count it for the planner."""
        await self._execute("analyze_rows")

    async def table_like(self) -> None:
        """Create a table ``by_hand`` in the form of ``events``."""
        await self._execute("table_like")

    async def _fetch(self, name: str, *arguments: object) -> list[Any]:
        return await self._connection.fetch(report(name, self._group), *arguments, timeout=self._timeout)

    async def _value(self, name: str, *arguments: object) -> Any:
        return await self._connection.fetchval(report(name, self._group), *arguments, timeout=self._timeout)

    async def _execute(self, name: str, *arguments: object) -> None:
        await self._connection.execute(report(name, self._group), *arguments, timeout=self._timeout)


def _cleaned(row: asyncpg.Record) -> dict[str, Any]:
    """The row's values. An earlier version may have kept the detail with a password."""
    return {**row, "detail": clean_detail(row["detail"])}
