"""Reads the messages of our own producer that carry many events: a header, then one event on each line. Pure.

The header names the first event's number, and the others follow. Everything here may still be hostile, since any server
can claim to be our producer: any other message, and one with too many lines, ends the session with a reason.
"""

import re
from collections.abc import Iterator, Sequence
from typing import overload

import msgspec

from unlost.listener.ports.source import Batch, Loss, SourceEnded

ACCEPT, FORMAT, LINES = "unlost-accept", "unlost-format", "lines"
"""The header by which lines are asked for, the header of the answer, and the value of both."""
PARTITIONS = "partitions"
"""The parameter of the address by which partitions are asked for, and the value of the answer's header."""
MOST = 4_096
"""How many events a message may carry. Our producer sends 512."""
_STEM = re.compile(r"[!-~]{1,200}")
LARGEST = 10**18
"""Numbers have at most so many digits (``core/cursor.py``)."""


class _Header(msgspec.Struct, frozen=True):
    unlost: str
    stem: str
    first: int


_header = msgspec.json.Decoder(_Header).decode


class NumberedCursors(Sequence[str]):
    """The cursors of events whose numbers follow each other. Each is made when it is read."""

    __slots__ = ("numbers", "stem")

    def __init__(self, stem: str, numbers: range) -> None:
        self.stem = stem
        self.numbers = numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __iter__(self) -> Iterator[str]:
        return map(self.stem.__add__, map(str, self.numbers))

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> "NumberedCursors": ...

    def __getitem__(self, index: int | slice) -> "str | NumberedCursors":
        if isinstance(index, slice):
            return NumberedCursors(self.stem, self.numbers[index])
        return f"{self.stem}{self.numbers[index]}"


def batch_of(messages: Sequence[bytes]) -> Batch:
    """Return the events of these messages; ``SourceEnded`` if one of them carries none."""
    parts = [_part_of(message) for message in messages]
    if len(parts) == 1:
        return Batch(*parts[0])
    bodies = [body for some, _ in parts for body in some]
    stem, start = parts[0][1].stem, parts[0][1].numbers.start
    following = start
    for _, cursors in parts:
        if (cursors.stem, cursors.numbers.start) != (stem, following):  # a damaged entry lies between, or a restart
            return Batch(bodies, [cursor for _, cursors in parts for cursor in cursors])
        following += len(cursors)
    return Batch(bodies, NumberedCursors(stem, range(start, following)))


def parted(batch: Batch, most: int) -> tuple[Batch, Batch | None]:
    """Return the first ``most`` events of a batch, and the rest."""
    if len(batch.bodies) <= most:
        return batch, None
    first = Batch(batch.bodies[:most], batch.cursors[:most])
    return first, Batch(batch.bodies[most:], batch.cursors[most:])


def _part_of(message: bytes) -> tuple[list[bytes], NumberedCursors]:
    head, *bodies = message.split(b"\n", MOST + 1)
    try:
        header = _header(head)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise _refused("it does not begin with a header") from None
    if header.unlost != LINES or not _STEM.fullmatch(header.stem) or not 0 < header.first < LARGEST - MOST:
        raise _refused("its header is invalid")
    if not 1 <= len(bodies) <= MOST:
        raise _refused(f"it must carry 1 to {MOST:,} events")
    return bodies, NumberedCursors(header.stem, range(header.first, header.first + len(bodies)))


def _refused(why: str) -> SourceEnded:
    return SourceEnded(Loss(f"the source sent a message that is not in its own format: {why}"))
