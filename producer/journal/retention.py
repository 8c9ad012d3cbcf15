"""What the journal forgets, within a transaction of its writer: rows that are old, and bodies where there are too many.

Numbers rise with time, so the oldest come first.
"""

import sqlite3
from itertools import takewhile

from producer.journal.statements import OLDEST


def forget(writer: sqlite3.Connection, older_than: float, chunk: int) -> int:
    """Delete up to ``chunk`` rows; how many."""
    oldest = writer.execute(OLDEST, (0, chunk)).fetchall()
    old = [(number, size or 0) for number, size, _ in takewhile(lambda row: row[2] < older_than, oldest)]
    if old:
        writer.execute("delete from entries where number <= ?", (old[-1][0],))
        _shrink(writer, sum(size for _, size in old), 0)
    return len(old)


def empty(writer: sqlite3.Connection, max_bytes: int, chunk: int) -> int:
    """Drop bodies until no more than ``max_bytes`` are left, up to ``chunk``; how many."""
    held, dropped = writer.execute("select bytes, dropped from held").fetchone()
    size, count, last = 0, 0, dropped
    for number, length, _ in writer.execute(OLDEST, (dropped, chunk)).fetchall():
        if held - size <= max_bytes:
            break
        size, count, last = size + (length or 0), count + 1, number
    if count:
        writer.execute("update entries set body = null where number > ? and number <= ?", (dropped, last))
        _shrink(writer, size, last)
    return count


def _shrink(writer: sqlite3.Connection, size: int, dropped: int) -> None:
    writer.execute("update held set bytes = bytes - ?, dropped = max(dropped, ?)", (size, dropped))
