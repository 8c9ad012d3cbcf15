"""Reads entries in order. One that SQLite no longer finds is read as damaged, so that reading continues.

Numbers are given without a gap, and retention takes the oldest. So if a number above the oldest entry is
missing, the disk damaged a page that holds it or leads to it.
"""

import sqlite3
from collections.abc import Iterable
from contextlib import closing

from unlost.producer.journal.entries import unreadable
from unlost.producer.journal.port import Entry
from unlost.producer.journal.sqlite import statements


def entries_after(reader: sqlite3.Connection, after: int, limit: int, max_bytes: int) -> list[Entry]:
    """See ``Journal.read``."""
    try:
        with closing(reader.execute(statements.READ, (after, limit))) as rows:
            found = _within((Entry(*row) for row in rows), max_bytes)
    except sqlite3.DatabaseError as error:
        if not _is_damage(error):
            raise
        found = []
    if found and all(entry.number == number for number, entry in enumerate(found, after + 1)):
        return found
    return _one_by_one(reader, after, limit, max_bytes)


def _one_by_one(reader: sqlite3.Connection, after: int, limit: int, max_bytes: int) -> list[Entry]:
    reader.execute("begin")  # retention may drop entries meanwhile, and they are not lost
    try:
        oldest, newest = reader.execute(statements.BOUNDS).fetchone()
        start = max(after + 1, newest + 1 if oldest is None else oldest)
        numbers = range(start, min(start + limit, newest + 1))
        return _within((_entry(reader, number) for number in numbers), max_bytes)
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
    return Entry(*row)


def _within(entries: Iterable[Entry], max_bytes: int) -> list[Entry]:
    taken, size = [], 0
    for entry in entries:
        taken.append(entry)
        size += len(entry.body)
        if size >= max_bytes:
            break
    return taken


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    return error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_CORRUPT
