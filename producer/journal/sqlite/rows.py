"""Writing rows: many in one piece, in a step of SQLite's that needs nothing of the interpreter, or a few as values."""

import sqlite3
from collections.abc import Iterator, Sequence
from itertools import chain, count, repeat

from unlost.producer.journal.port import Entry
from unlost.producer.journal.publications import Group, Lines, Publication, in_pieces
from unlost.producer.journal.sqlite import statements
from unlost.producer.journal.sqlite.known import LEFT, Judged

LITTLE_BYTES = 256 * 1024
"""More bodies than these take longer to write than the event loop can be missed for."""
NUMBER = b"%018d"
"""As long as a cursor's may be, and all of the same width (``statements.py``)."""


def insert_new(writer: sqlite3.Connection, number: int, groups: Sequence[Group], at: float) -> int:
    """All of these, from this number on; how many bytes their bodies have."""
    size = 0
    for lines in in_pieces(groups):
        index = lines.index
        values = (index.ids, index.digests, lines.text, index.places, number, at)
        _check(writer.execute(statements.INSERT_LINES, values), len(lines))
        number += len(lines)
        size += lines.size
    return size


def insert_some(writer: sqlite3.Connection, lines: Lines, judged: Judged, at: float) -> None:
    """Of these those that have a number."""
    index, numbers = lines.index, NUMBER * len(judged.numbers) % tuple(judged.numbers)
    values = (index.ids, index.digests, lines.text, index.places, numbers, at, judged.marks)
    _check(writer.execute(statements.INSERT_SOME_LINES, values), len(lines) - judged.marks.count(LEFT))


def insert_few(writer: sqlite3.Connection, number: int, few: Sequence[Publication], at: float) -> int:
    """As ``insert_new``. ``bytearray``: for each ``bytes`` Python's module seeks an adapter anew."""
    if few:
        rows = zip(
            count(number), [one.event_id for one in few], [bytearray(one.digest) for one in few],
            [bytearray(one.body) for one in few], repeat(at), repeat(1), strict=False,
        )  # fmt: skip
        writer.execute(statements.INSERTS[len(few) - 1], list(chain.from_iterable(rows)))
    return sum([len(one.body) for one in few])


def _check(done: sqlite3.Cursor, due: int) -> None:
    """Nobody is told of a row that is not there, whatever index came with a text."""
    if done.rowcount != due:
        raise ValueError(f"{done.rowcount:,} rows came of {due:,} lines")


def are_little(groups: Sequence[Group]) -> bool:
    """Whether they can be written while the event loop waits."""
    if sum(map(len, groups)) > statements.FEW:
        return False
    return sum([len(one.body) for one in chain.from_iterable(groups)]) <= LITTLE_BYTES


def new_entries(first: int, groups: Sequence[Group], at: float) -> Iterator[Entry]:
    """Those that ``insert_new`` placed."""
    for number, one in enumerate(chain.from_iterable(groups), first):
        yield Entry(number, one.event_id, one.digest, one.body, at)


def some_entries(judged: Sequence[tuple[Lines, Judged]], at: float) -> Iterator[Entry]:
    """Those that ``insert_some`` placed."""
    for lines, judgement in judged:
        for number, one in zip(judgement.numbers, lines, strict=True):
            if number:
                yield Entry(number, one.event_id, one.digest, one.body, at)
