"""Cuts a JSON array that comes in pieces of any size into the texts of its items. Pure.

It looks at strings, brackets and commas alone. Whether an item is JSON is for its reader to find out. An array of 64 MB
may have 32 million items: so nothing is decoded here, and at most one item is kept.
"""

import re
from collections.abc import Iterator

from unlost.listener.core.errors import InvalidEvent
from unlost.producer.publish.accept import NotAccepted
from unlost.producer.publish.piece_buffer import PieceBuffer

MARK = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|["\[\]{},]', re.DOTALL)
"""A whole string, or a mark outside of strings. A quote alone begins a string that goes on in the next piece."""
STRING_GOES_ON = re.compile(rb'[^"\\]*(?:\\.[^"\\]*)*', re.DOTALL)
QUOTE, COMMA = b'",'
OPENING, CLOSING = b"[{", b"]}"
SPACE = b" \t\r\n"


class ArrayItems:
    """One array."""

    def __init__(self, *, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._depth = 0
        self._in_string = False
        self._count = 0
        self._closed = False
        self._begun = PieceBuffer()
        """The beginning of an item whose end has not come yet."""
        self._escape = b""
        """A backslash at the end of a piece: what it escapes has not come yet."""

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """Yield the items that this piece completes. Raises ``InvalidEvent`` for what is no array of items, and
        ``NotAccepted`` for an item that is too large."""
        piece = self._escape + piece
        odd = (len(piece) - len(piece.rstrip(b"\\"))) % 2
        piece, self._escape = piece[: len(piece) - odd], piece[len(piece) - odd :]
        start = self._opened(piece)
        at = self._after_string(piece, start)
        for mark in MARK.finditer(piece, at):
            if mark.end() - mark.start() > 1:
                continue
            if self._ends_an_item(piece[mark.start()]):
                yield from self._item(piece[start : mark.start()])
                start = mark.end()
            if self._closed:
                _require_nothing_in(piece[start:])
                return
            if self._in_string:
                break
        self._begun.add(piece[start:])
        if len(self._begun) > self._max_bytes:
            raise NotAccepted("too_large", f"item {self._count + 1} has more than {self._max_bytes:,} bytes")

    def end(self) -> None:
        """Raise ``InvalidEvent`` unless the array was closed."""
        if not self._closed:
            raise InvalidEvent(f"the array is not closed after item {self._count}")

    def _opened(self, piece: bytes) -> int:
        """The place of the first byte in the array."""
        if self._closed:
            _require_nothing_in(piece)
            return len(piece)
        text = piece.lstrip(SPACE)
        if self._depth or not text:
            return 0 if self._depth else len(piece)
        if not text.startswith(b"["):
            raise InvalidEvent("it does not begin with [")
        self._depth = 1
        return len(piece) - len(text) + 1

    def _after_string(self, piece: bytes, at: int) -> int:
        """The first place outside of the string that an earlier piece began."""
        if not self._in_string:
            return at
        end = STRING_GOES_ON.match(piece, at)
        assert end is not None, "the pattern also matches nothing"
        if end.end() == len(piece):
            return len(piece)
        self._in_string = False
        return end.end() + 1

    def _ends_an_item(self, mark: int) -> bool:
        if mark == QUOTE:
            self._in_string = True
        elif mark in OPENING:
            self._depth += 1
        elif mark in CLOSING:
            self._depth -= 1
            self._closed = self._depth == 0
        return self._closed or (mark == COMMA and self._depth == 1)

    def _item(self, text: bytes) -> Iterator[bytes]:
        self._begun.add(text)
        item = self._begun.take().strip(SPACE)
        if item or self._count or not self._closed:
            self._count += 1
            yield item


def _require_nothing_in(rest: bytes) -> None:
    if rest.strip(SPACE):
        raise InvalidEvent("something follows the array")
