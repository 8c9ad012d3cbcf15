"""Decides the outcome and the number of each line when some ids are known or occur twice. Pure."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal

import msgspec

from unlost.producer.journal.content import same_value
from unlost.producer.journal.port import Placed
from unlost.producer.journal.publications import Lines

FIRST, AGAIN, LEFT = "1", "0", "-"
"""How a line is stored: as the first with its id, once more, or not at all."""

Known = Mapping[str, tuple[int, bytes]]
"""Number and digest of the first entry, by id."""

CursorOf = Callable[[int], str]
"""The cursor of the entry with a number."""

Plain = Callable[[str, bytes], bytes]
"""The text of an event, by its id and body."""

BodyOf = Callable[[int], bytes | None]
"""The body of the entry with a number, or None if it was dropped."""


class Judged(msgspec.Struct, frozen=True):
    """For each line: its outcome, its number (0 if it is not stored), and its mark."""

    placed: list[Placed]
    numbers: list[int]
    marks: str
    newest: int
    size: int
    """Total bytes of the bodies that are stored."""


def as_it_is(event_id: str, body: bytes) -> bytes:  # noqa: ARG001  a ``Plain``
    """Return a body that is the text of its event."""
    return body


def judge(
    lines: Lines, known: Known, newest: int, cursor: CursorOf, body_of: BodyOf, plain: Plain = as_it_is
) -> Judged:
    """Judge each line. New numbers follow ``newest``."""
    placed: list[Placed] = []
    numbers: list[int] = []
    marks: list[str] = []
    new: dict[str, tuple[int, int]] = {}
    size = lines.size
    for line, event_id in enumerate(lines.ids()):
        status, number = _of(lines, line, known.get(event_id), new.get(event_id), body_of, partial(plain, event_id))
        if status in ("accepted", "redelivered"):
            newest += 1
            number = newest
            marks.append(FIRST if status == "accepted" else AGAIN)
            numbers.append(number)
        else:
            size -= len(lines.body(line))
            marks.append(LEFT)
            numbers.append(0)
        if status == "accepted":
            new[event_id] = number, line
        placed.append(Placed(status, cursor(number)))
    return Judged(placed, numbers, "".join(marks), newest, size)


def _of(
    lines: Lines,
    line: int,
    known: tuple[int, bytes] | None,
    new: tuple[int, int] | None,
    body_of: BodyOf,
    plain: Callable[[bytes], bytes],
) -> tuple[Literal["accepted", "redelivered", "duplicate", "conflict"], int]:
    """The outcome of a line, and the number of the first entry with its id."""
    if known is not None:
        number, digest = known
        same = digest == lines.digest(line) or _same(body_of(number), lines.body(line), plain)
    elif new is not None:
        number, before = new
        same = lines.digest(before) == lines.digest(line) or _same(lines.body(before), lines.body(line), plain)
    else:
        return "accepted", 0
    if not same:
        return "conflict", number
    return ("redelivered" if lines.redeliver else "duplicate"), number


def _same(body: bytes | None, other: bytes, plain: Callable[[bytes], bytes]) -> bool:
    return body is not None and same_value(plain(body), plain(other))
