"""Reads entries in order. One that SQLite no longer finds is read as damaged, so that reading continues.

Numbers are given without a gap, and retention takes the oldest. So if a number above the oldest entry is
missing, the disk damaged a page that holds it or leads to it.

Nearly always all entries match their checksums, which proves everything at once: the number, the type and the content
of each column. Only if they do not, each one is looked at.
"""

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from typing import Any, TypeVar

from unlost.producer.journal.checksums import checksum_of, content_sums, numbered_sums
from unlost.producer.journal.entries import unreadable
from unlost.producer.journal.port import Entry
from unlost.producer.journal.sqlite import statements

T = TypeVar("T")
Row = tuple[Any, ...]
"""Number, id, digest, body, time and checksum. A damaged file may hold a value of any type in each."""
TYPES = (int, str, bytes, bytes, float, bytes), (int, str, bytes, bytes, float, type(None))
"""The types of a row's columns, with a checksum and without."""
ROWS_AT_ONCE = 32
"""Read together, before their size is looked at."""


def entries_after(reader: sqlite3.Connection, after: int, limit: int, max_bytes: int) -> list[Entry]:
    """See ``Journal.read``."""
    try:
        rows = _rows_after(reader, after, limit, max_bytes)
    except sqlite3.DatabaseError as error:
        if not _is_damage(error):
            raise
        rows = []
    if rows and [row[0] for row in rows] == [*range(after + 1, after + 1 + len(rows))]:
        if _match_their_checksums(rows):
            return [Entry(number, name, digest, body, at, True) for number, name, digest, body, at, _ in rows]
        if all(_types(row) in TYPES for row in rows):
            return [entry_of(row) for row in rows]
    return _one_by_one(reader, after, limit, max_bytes)


def _rows_after(reader: sqlite3.Connection, after: int, limit: int, max_bytes: int) -> list[Row]:
    taken: list[Row] = []
    size = 0
    with closing(reader.execute(statements.READ, (after, limit))) as rows:
        while size < max_bytes and (some := rows.fetchmany(ROWS_AT_ONCE)):
            taken += some
            size += sum([_length(row[3]) for row in some])
    return _within(taken, max_bytes, lambda row: _length(row[3])) if size > max_bytes else taken


def _length(body: object) -> int:
    return len(body) if isinstance(body, bytes | str) else 0


def _match_their_checksums(rows: Sequence[Row]) -> bool:
    numbers, ids, digests, bodies, times, checksums = zip(*rows, strict=True)
    try:
        found = numbered_sums(content_sums(ids, digests, bodies), numbers)
        return found == b"".join(checksums) and {*map(type, times)} == {float}
    except (TypeError, UnicodeError):  # another type, or an id that is no text
        return False


def _types(row: Row) -> tuple[type, ...]:
    return tuple(map(type, row))


def _one_by_one(reader: sqlite3.Connection, after: int, limit: int, max_bytes: int) -> list[Entry]:
    reader.execute("begin")  # retention may drop entries meanwhile, and they are not lost
    try:
        oldest, newest = reader.execute(statements.BOUNDS).fetchone()
        start = max(after + 1, newest + 1 if oldest is None else oldest)
        numbers = range(start, min(start + limit, newest + 1))
        return _within((_entry(reader, number) for number in numbers), max_bytes, lambda entry: len(entry.body))
    finally:
        reader.execute("rollback")


def _entry(reader: sqlite3.Connection, number: int) -> Entry:
    try:
        row = reader.execute(statements.ENTRY, (number,)).fetchone()
    except sqlite3.DatabaseError as error:
        if not _is_damage(error):
            raise
        row = None
    if row is None or row[0] != number:
        return unreadable(number)
    return entry_of(row)


def entry_of(row: Row) -> Entry:
    """The entry of a row whose columns have the right types."""
    number, event_id, digest, body, at, checksum = row
    if not (checksum and body):  # retention empties bodies
        return Entry(number, event_id, digest, body, at)
    try:
        is_whole = checksum == checksum_of(number, event_id, digest, body)
    except UnicodeError:
        is_whole = False
    return Entry(number, event_id, digest, body, at, is_whole)


def _within(items: Iterable[T], max_bytes: int, size_of: Callable[[T], int]) -> list[T]:
    """The first of these until they reach ``max_bytes``, but at least one if there is one."""
    taken, size = [], 0
    for one in items:
        taken.append(one)
        size += size_of(one)
        if size >= max_bytes:
            break
    return taken


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    return error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_CORRUPT
