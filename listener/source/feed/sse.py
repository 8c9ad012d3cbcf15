"""Parses server-sent events, in the format of the HTML standard. Pure, and bounded.

Each event becomes one message: ``{"event":…,"id":…,"data":…}``. The data is kept as it was
sent if it is JSON, and becomes a string otherwise. An event of more than the allowed bytes is measured, not kept.

The last id holds for the events after it, which do not repeat it. So a long one would multiply what is received: it is
left out, and an event that it belongs to has no ``id``.
"""

import re

import msgspec
from msgspec import Raw

from unlost.listener.core.oversized import Measure, Oversized

_END = re.compile(rb"\r\n|\n|\r")
_encode = msgspec.json.Encoder().encode
_raw = msgspec.json.Decoder(Raw).decode
LONGEST_ID = 1_000
"""How many bytes an id may have, as JSON."""
BOM = b"\xef\xbb\xbf"


class EventParser:
    """Takes bytes as they arrive, and returns the messages that they complete."""

    def __init__(self, largest: int) -> None:
        self._largest = largest
        self._rest = b""
        self._begun = False
        self._ended_by_cr = False
        self._size = 0
        self._measure: Measure | None = None
        self._data: list[bytes] = []
        self._event = b""
        self._id = _id_of("")
        self.retry: float | None = None
        """Seconds that the source wants between connections."""

    def take(self, piece: bytes) -> list[bytes | Oversized]:
        """Take the next bytes."""
        text = self._rest + piece
        if not self._begun:
            if len(text) < len(BOM) and BOM.startswith(text):
                self._rest = text
                return []
            self._begun, text = True, text.removeprefix(BOM)
        if self._ended_by_cr and text:  # a line end that was cut in two; waiting for the other half holds up the event
            self._ended_by_cr, text = False, text.removeprefix(b"\n")
        found: list[bytes | Oversized] = []
        at = 0
        for end in _END.finditer(text):
            self._ended_by_cr = end.group() == b"\r" and end.end() == len(text)
            self._line(text[at : end.start()], found)
            at = end.end()
        self._rest = text[at:]
        if self._measure is None and self._size + len(self._rest) > self._largest:
            self._begin_measure()
        if self._measure is not None and len(self._rest) > 1:
            self._measure.add(self._rest[:-1])
            self._rest = self._rest[-1:]  # so that a line end that follows does not look like an empty line
        return found

    def _line(self, line: bytes, found: list[bytes | Oversized]) -> None:
        if not line:
            self._end(found)
            return
        if line.startswith(b":"):
            return  # a comment, which belongs to no event
        self._size += len(line)
        if self._measure is not None:
            self._measure.add(line)
        elif self._size > self._largest:
            self._begin_measure()
            assert self._measure is not None
            self._measure.add(line)
        else:
            self._field(line)

    def _begin_measure(self) -> None:
        self._measure = Measure()
        for one in self._data:
            self._measure.add(one)
        self._data.clear()

    def _field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        match name:
            case b"data":
                self._data.append(value)
            case b"event":
                self._event = value
            case b"id" if b"\0" not in value:
                self._id = _id_of(value.decode(errors="replace"))
            case b"retry" if value.isdigit() and len(value) < 10:
                self.retry = int(value) / 1000
            case _:
                pass  # a name that the standard does not know

    def _end(self, found: list[bytes | Oversized]) -> None:
        if self._measure is not None:
            found.append(self._measure.end())
        elif self._data:
            found.append(self._message(b"\n".join(self._data)))
        self._measure, self._event, self._size = None, b"", 0
        self._data.clear()

    def _message(self, data: bytes) -> bytes:
        try:
            shown = bytes(_raw(data))
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            shown = _encode(data.decode(errors="replace"))
        event = self._event.decode(errors="replace") or "message"
        return b'{"event":%b,%b"data":%b}' % (_encode(event), self._id, shown)


def _id_of(text: str) -> bytes:
    """Return the field of an id; nothing if it is too long."""
    encoded = _encode(text)
    return b'"id":%b,' % encoded if len(encoded) <= LONGEST_ID else b""
