"""Partitions of the stream: a client that names some is sent the events of these alone. Pure.

The partition of an event is the CRC-32 of its text, modulo the number of partitions that the client names. So neither
the journal nor a producer keeps partitions, and copies of an event have the same one. A message carries a header, then
the text of one event on each line. The header has their numbers, and ``upto``: everything of these partitions up to
this number has been sent. So a client whose partitions stand still knows how far the stream has gone.
"""

import re
from collections.abc import Sequence
from zlib import crc32

import msgspec

from unlost.producer.journal.timelines import Timelines
from unlost.producer.stream.messages import Carry, wire_of

PARTITIONS = "partitions"
"""The parameter of the address, and the format in the answer."""
MOST = 256
NUMBER_BYTES = 20
"""An entry's number in a header takes at most so many bytes."""
_asked = re.compile(r"((?:[0-9]{1,3}(?:,[0-9]{1,3}){0,255})?)/([0-9]{1,3})", re.ASCII)


class Header(msgspec.Struct, frozen=True):
    """The first line. The cursor of each event is ``stem`` and its number."""

    unlost: str
    stem: str
    numbers: Sequence[int]
    upto: int


class Share(msgspec.Struct, frozen=True):
    """The partitions that a client reads, of how many."""

    partitions: frozenset[int]
    count: int


def share_of(asked: str) -> Share | None:
    """Read ``3,17/64``, or ``/64`` for none of them; None for anything else."""
    found = _asked.fullmatch(asked)
    if found is None:
        return None
    share = Share(frozenset(map(int, filter(None, found[1].split(",")))), int(found[2]))
    return share if max(share.partitions, default=0) < share.count <= MOST else None


class Partitioner:
    """Finds the partitions of consecutive bodies, once for all clients that stand at the same place."""

    def __init__(self) -> None:
        self._place = (0, 0, 0)
        self._found: Sequence[int] = ()

    def pick(self, share: Share, first: int, bodies: Sequence[bytes]) -> list[bytes]:
        """Return the bodies, and nothing in place of those that are not in the share."""
        place = first, len(bodies), share.count
        if self._place != place:  # an entry of a number never changes
            self._found = [checksum % share.count for checksum in map(crc32, bodies)]
            self._place = place
        mine = share.partitions
        return [body if one in mine else b"" for body, one in zip(bodies, self._found, strict=True)]


def in_partitions(timelines: Timelines, *, largest: int) -> Carry:
    """Messages with the events of some partitions: those whose bodies are not empty. Nothing if all are empty.

    A message of several events has at most ``largest`` bytes beside its header's beginning.
    """

    def carry(first: int, bodies: Sequence[bytes]) -> bytes:
        last = first + len(bodies) - 1
        wire, numbers, run, size, stem = b"", list[int](), list[bytes](), 0, ""
        for number, body in enumerate(bodies, first):
            if not body:
                continue
            size += len(body) + NUMBER_BYTES
            if run and (size > largest or timelines.stem_of(number) != stem):
                wire += _message(stem, numbers, run, numbers[-1])
                numbers, run, size = [], [], len(body) + NUMBER_BYTES
            if not run:
                stem = timelines.stem_of(number)
            numbers.append(number)
            run.append(body)
        if not run:
            return b""
        ends_here = timelines.stem_of(last) == stem
        wire += _message(stem, numbers, run, last if ends_here else numbers[-1])
        return wire if ends_here else wire + upto(timelines, last)

    return carry


def upto(timelines: Timelines, number: int) -> bytes:
    """The message that everything up to this number has been sent."""
    return _message(timelines.stem_of(number), (), (), number)


def _message(stem: str, numbers: Sequence[int], run: Sequence[bytes], last: int) -> bytes:
    return wire_of(b"\n".join((msgspec.json.encode(Header(PARTITIONS, stem, numbers, last)), *run)))
