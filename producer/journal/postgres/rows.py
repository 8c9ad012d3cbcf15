"""Looks up and inserts single rows, and completes what was read."""

from collections.abc import Sequence

import asyncpg

from unlost.producer.journal.entries import unreadable
from unlost.producer.journal.known import FIRST, BodyOf, Judged, Known
from unlost.producer.journal.port import Entry
from unlost.producer.journal.postgres import statements
from unlost.producer.journal.publications import Lines


async def looked_up(connection: asyncpg.Connection, lines: Lines) -> tuple[Known, BodyOf]:
    """The known entries of these ids, and the bodies of those whose digest differs."""
    ids = lines.ids()
    known = {event_id: (number, digest) for event_id, number, digest in await connection.fetch(statements.KNOWN, ids)}
    differing = [
        known[event_id][0]
        for line, event_id in enumerate(ids)
        if event_id in known and known[event_id][1] != lines.digest(line)
    ]
    bodies: dict[int, bytes | None] = {
        number: body for number, body in await connection.fetch(statements.BODIES, differing) if differing
    }
    return known, bodies.get


async def insert_some(connection: asyncpg.Connection, lines: Lines, judged: Judged, at: float) -> None:
    """Insert those lines that have a number."""
    some = [
        (number, one.event_id, one.digest, one.body, mark == FIRST)
        for number, one, mark in zip(judged.numbers, lines, judged.marks, strict=True)
        if number
    ]
    if some:
        await connection.execute(statements.INSERT_SOME, at, *map(list, zip(*some, strict=True)))


def without_holes(found: Sequence[Entry], first: int, last: int) -> list[Entry]:
    """The entries from ``first`` to ``last``. One that is missing is lost, because numbers are given without a hole."""
    if len(found) == last - first + 1:
        return list(found)
    there = {one.number: one for one in found}
    return [there.get(number) or unreadable(number) for number in range(first, last + 1)]
