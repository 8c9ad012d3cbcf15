"""Writing rows: many in one piece, in a step of SQLite's that needs nothing of the interpreter's, or a few as values.

Each tells how many bytes the bodies have.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from itertools import chain, count, repeat

from producer.journal import statements
from producer.journal.publications import Group, Lines, Publication, in_pieces, lines_of


def insert_groups(writer: sqlite3.Connection, number: int, groups: Sequence[Group], at: float) -> int:
    """New ones, from this number on."""
    size = 0
    for lines in in_pieces(groups):
        _insert_lines(writer, statements.INSERT_LINES, number, lines, at)
        number += len(lines)
        size += lines.size
    return size


def insert_some(
    writer: sqlite3.Connection, number: int, some: Sequence[Publication], firsts: Sequence[int], at: float
) -> int:
    """The same where not each is the first of its id: ``firsts`` tells by 1 and 0."""
    if len(some) <= statements.FEW:
        return insert_few(writer, number, some, firsts, at)
    lines = lines_of(some)
    _insert_lines(writer, statements.INSERT_LINES_AGAIN, number, lines, at, "".join(map(str, firsts)))
    return lines.size


def insert_few(
    writer: sqlite3.Connection, number: int, few: Sequence[Publication], firsts: Iterable[int], at: float
) -> int:
    """The same for a few. ``bytearray``: for each ``bytes`` Python's module seeks an adapter anew."""
    if few:
        rows = zip(
            count(number), [one.event_id for one in few], [bytearray(one.digest) for one in few],
            [bytearray(one.body) for one in few], repeat(at), firsts, strict=False,
        )  # fmt: skip
        writer.execute(statements.INSERTS[len(few) - 1], list(chain.from_iterable(rows)))
    return sum([len(one.body) for one in few])


def _insert_lines(writer: sqlite3.Connection, statement: str, number: int, lines: Lines, at: float, *more: str) -> None:
    index = lines.index
    writer.execute(statement, (index.ids, index.digests, lines.text, index.places, number, at, *more))
