"""Retention, within a transaction of the writer: deletes old rows, and drops bodies beyond the size limit."""

import sqlite3

from unlost.producer.journal.groups import RetentionLimits
from unlost.producer.journal.retention import too_much, too_old
from unlost.producer.journal.sqlite.statements import BOUNDS, OLDEST


def retire(writer: sqlite3.Connection, older_than: float, max_bytes: int, chunk: int, keep: RetentionLimits) -> int:
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
    old = too_old(oldest, older_than=older_than, keep_after=keep_after)
    if old.count:
        writer.execute("delete from entries where number <= ?", (old.last,))
        _shrink(writer, old.size, 0)
    return old.count


def _empty(writer: sqlite3.Connection, max_bytes: int, chunk: int, keep_after: int) -> int:
    """Drop bodies until at most ``max_bytes`` remain. Returns how many."""
    held, dropped = writer.execute("select bytes, dropped from held").fetchone()
    oldest = writer.execute(OLDEST, (dropped, chunk)).fetchall()
    much = too_much(oldest, held=held, max_bytes=max_bytes, keep_after=keep_after)
    if much.count:
        writer.execute("update entries set body = null where number > ? and number <= ?", (dropped, much.last))
        _shrink(writer, much.size, much.last)
    return much.count


def _shrink(writer: sqlite3.Connection, size: int, dropped: int) -> None:
    writer.execute("update held set bytes = bytes - ?, dropped = max(dropped, ?)", (size, dropped))
