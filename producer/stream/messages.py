"""The WebSocket messages that carry events to a client. Pure.

A client gets one message for each event, with a cursor as its last field. A client that asks for lines gets many events
in one message: a header, then the text of one event on each line. Their numbers follow each other, so the header has
only the first. This costs a listener half as much to read.

Frames from a server are not masked, and here they are not compressed. The library's ``Frame.serialize`` takes six times
as long as ``wire_of``. A damaged entry keeps its number and is not sent: its body is empty here.
"""

import struct
from collections.abc import Callable, Iterator, Sequence

import msgspec

from unlost.producer.journal.timelines import Timelines

ACCEPT, FORMAT, LINES = "unlost-accept", "unlost-format", "lines"
"""The header by which a client asks for lines, the header of the answer, and the value of both."""
_medium = struct.Struct("!BBH").pack
_long = struct.Struct("!BBQ").pack

Carry = Callable[[int, Sequence[bytes]], bytes]
"""Makes what is written to a client for consecutive bodies. The first argument is the number of the first."""


class Header(msgspec.Struct, frozen=True):
    """The first line. The cursor of each event is ``stem`` and its number."""

    unlost: str
    stem: str
    first: int


def frame_of(body: bytes, cursor: str) -> bytes:
    """The event's text with ``cursor`` added as its last field. The text has at least an id, so a comma is right."""
    return b'%b,"cursor":"%b"}' % (body[:-1], cursor.encode())


def wire_of(message: bytes) -> bytes:
    """The WebSocket text frame that carries this message (RFC 6455, section 5.2)."""
    size = len(message)
    if size < 126:
        return b"\x81%c%b" % (size, message)
    if size < 1 << 16:
        return _medium(0x81, 126, size) + message
    return _long(0x81, 127, size) + message


def one_by_one(timelines: Timelines) -> Carry:
    """One message for each event."""

    def carry(first: int, bodies: Sequence[bytes]) -> bytes:
        numbered = enumerate(bodies, first)
        return b"".join([wire_of(frame_of(body, timelines.cursor(number))) for number, body in numbered if body])

    return carry


def in_lines(timelines: Timelines, *, largest: int) -> Carry:
    """One message for many events. A message of several has at most ``largest`` bytes beside its header."""

    def carry(first: int, bodies: Sequence[bytes]) -> bytes:
        return b"".join([
            wire_of(b"\n".join((msgspec.json.encode(Header(LINES, timelines.stem_of(number), number)), *run)))
            for number, run in _runs(first, bodies, timelines, largest)
        ])  # fmt: skip

    return carry


def _runs(
    first: int, bodies: Sequence[bytes], timelines: Timelines, largest: int
) -> Iterator[tuple[int, Sequence[bytes]]]:
    """Divide bodies into those that one header can describe, each with the number of its first."""
    last = first + len(bodies) - 1
    size = sum(map(len, bodies)) + len(bodies)
    if all(bodies) and size <= largest and timelines.stem_of(first) == timelines.stem_of(last):
        yield first, bodies  # nearly always
        return
    begin, run, size, stem = first, list[bytes](), 0, ""
    for number, body in enumerate(bodies, first):
        size += len(body) + 1
        if run and (not body or size > largest or timelines.stem_of(number) != stem):
            yield begin, run
            run = []
        if not run:
            begin, size, stem = number, len(body) + 1, timelines.stem_of(number)
        if body:
            run.append(body)
    if run:
        yield begin, run
