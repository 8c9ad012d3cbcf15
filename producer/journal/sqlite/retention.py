"""Retention, within a transaction of the writer: deletes old rows, and drops bodies beyond the size limit.

Numbers rise with time, so the oldest entries come first. Whatever a known group has not read stays, at any age and
size.
"""

import sqlite3
from itertools import takewhile

from unlost.producer.journal.groups import Keep
from unlost.producer.journal.sqlite.statements import BOUNDS, OLDEST


def retire(writer: sqlite3.Connection, older_than: float, max_bytes: int, chunk: int, keep: Keep) -> int:
    """Apply both limits, to at most ``chunk`` entries each. Returns how many changed, and counts what was unread."""
    before = _before_oldest(writer)
    count = _forget(writer, older_than, chunk, keep.after) + _empty(writer, max_bytes, chunk, keep.after)
    if count:
        unread = _before_oldest(writer) - max(before, keep.read)
        writer.execute("update unread set dropped = dropped + ?", (max(0, unread),))
    return count


def _before_oldest(writer: sqlite3.Connection) -> int:
    oldest, newest = writer.execute(BOUNDS).fetchone()
    return int(newest if oldest is None else oldest - 1)


def _forget(writer: sqlite3.Connection, older_than: float, chunk: int, keep_after: int) -> int:
    """Delete old rows. Returns how many."""
    oldest = writer.execute(OLDEST, (0, chunk)).fetchall()
    old = [
        (number, size or 0)
        for number, size, _ in takewhile(lambda row: row[2] < older_than and row[0] <= keep_after, oldest)
    ]
    if old:
        writer.execute("delete from entries where number <= ?", (old[-1][0],))
        _shrink(writer, sum(size for _, size in old), 0)
    return len(old)


def _empty(writer: sqlite3.Connection, max_bytes: int, chunk: int, keep_after: int) -> int:
    """Drop bodies until at most ``max_bytes`` remain. Returns how many."""
    held, dropped = writer.execute("select bytes, dropped from held").fetchone()
    size, count, last = 0, 0, dropped
    for number, length, _ in writer.execute(OLDEST, (dropped, chunk)).fetchall():
        if held - size <= max_bytes or number > keep_after:
            break
        size, count, last = size + (length or 0), count + 1, number
    if count:
        writer.execute("update entries set body = null where number > ? and number <= ?", (dropped, last))
        _shrink(writer, size, last)
    return count


def _shrink(writer: sqlite3.Connection, size: int, dropped: int) -> None:
    writer.execute("update held set bytes = bytes - ?, dropped = max(dropped, ?)", (size, dropped))
