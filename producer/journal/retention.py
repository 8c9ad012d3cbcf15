"""Decides which of the oldest entries retention takes. Pure; each journal carries it out.

Numbers rise with time, so the oldest entries come first. Entries that a known group has not read stay, at any age and
size.
"""

from collections.abc import Sequence
from itertools import takewhile

import msgspec

Row = tuple[int, int | None, float]
"""Number, bytes of the body, time."""


class Taken(msgspec.Struct, frozen=True):
    """The oldest entries that are taken: up to which number, how many, and the bytes of their bodies."""

    last: int
    count: int
    size: int


def too_old(oldest: Sequence[Row], *, older_than: float, keep_after: int) -> Taken:
    """Take entries older than ``older_than``."""
    return _taken(list(takewhile(lambda row: row[2] < older_than and row[0] <= keep_after, oldest)))


def too_much(oldest: Sequence[Row], *, held: int, max_bytes: int, keep_after: int) -> Taken:
    """Take entries until at most ``max_bytes`` remain of the ``held`` bytes."""
    some: list[Row] = []
    for row in oldest:
        if held <= max_bytes or row[0] > keep_after:
            break
        some.append(row)
        held -= row[1] or 0
    return _taken(some)


def _taken(rows: Sequence[Row]) -> Taken:
    return Taken(rows[-1][0] if rows else 0, len(rows), sum(size or 0 for _, size, _ in rows))
