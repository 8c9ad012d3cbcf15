"""Writes rows: many as one text, in one step of SQLite that needs no interpreter, or a few as values."""

import sqlite3
from collections.abc import Sequence
from itertools import chain, count, repeat

from unlost.producer.journal.checksums import checksum_of, numbered_sums
from unlost.producer.journal.known import LEFT, Judged
from unlost.producer.journal.publications import Lines, Publication, Publications, in_pieces
from unlost.producer.journal.sqlite import statements

LITTLE_BYTES = 256 * 1024
"""Writing more bytes than this would block the event loop for too long."""
NUMBER = b"%018d"
"""As many digits as a cursor may have, and of fixed width (``statements.py``)."""


def insert_new(writer: sqlite3.Connection, number: int, groups: Sequence[Publications], at: float) -> int:
    """Insert all of these, starting at ``number``. Returns the total bytes of their bodies."""
    size = 0
    for lines in in_pieces(groups):
        index = lines.index
        sums = numbered_sums(index.sums, range(number, number + len(lines)))
        values = (index.ids, index.digests, lines.text, index.places, number, at, sums)
        _check(writer.execute(statements.INSERT_LINES, values), len(lines))
        number += len(lines)
        size += lines.size
    return size


def insert_some(writer: sqlite3.Connection, lines: Lines, judged: Judged, at: float) -> None:
    """Insert those lines that have a number."""
    index, numbers = lines.index, NUMBER * len(judged.numbers) % tuple(judged.numbers)
    sums = numbered_sums(index.sums, judged.numbers)
    values = (index.ids, index.digests, lines.text, index.places, numbers, at, sums, judged.marks)
    _check(writer.execute(statements.INSERT_SOME_LINES, values), len(lines) - judged.marks.count(LEFT))


def insert_few(writer: sqlite3.Connection, number: int, few: Sequence[Publication], at: float) -> int:
    """Like ``insert_new``. ``bytearray``, because for each ``bytes`` value Python's module searches an adapter."""
    if few:
        rows = zip(
            count(number), [one.event_id for one in few], [bytearray(one.digest) for one in few],
            [bytearray(one.body) for one in few], repeat(at), repeat(1),
            [bytearray(checksum_of(no, one.event_id, one.digest, one.body)) for no, one in enumerate(few, number)],
            strict=False,
        )  # fmt: skip
        writer.execute(statements.INSERTS[len(few) - 1], list(chain.from_iterable(rows)))
    return sum([len(one.body) for one in few])


def _check(done: sqlite3.Cursor, expected: int) -> None:
    """Raise if rows are missing, so that no event is reported as stored that is not."""
    if done.rowcount != expected:
        raise ValueError(f"{done.rowcount:,} rows came of {expected:,} lines")


def are_little(groups: Sequence[Publications]) -> bool:
    """Whether writing them on the event loop is quick enough."""
    if sum(map(len, groups)) > statements.FEW:
        return False
    return sum([len(one.body) for one in chain.from_iterable(groups)]) <= LITTLE_BYTES
