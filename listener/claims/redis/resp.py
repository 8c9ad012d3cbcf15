"""Checks the lengths that a Redis announces before the library's parser allocates memory for them.

Otherwise an array of a thousand million elements would be allocated, and freeing it would block for seconds.
"""

from redis.exceptions import InvalidResponse

MOST_ELEMENTS = 8_192
MOST_BYTES = 4 * 1024 * 1024
"""The limit of one answer. A thousand records are a few hundred kilobytes."""
LONGEST_LINE = 64 * 1024
BULKS, AGGREGATES = b"$=!", b"*%~>|"


class Lengths:
    """Follows the framing of what arrives on one connection."""

    def __init__(self) -> None:
        self._to_skip = 0
        self._line = b""
        self._bytes = 0

    def answered(self) -> None:
        """Record that an answer is complete, and count the next one from zero."""
        self._bytes = 0

    def check(self, data: bytes) -> None:
        """Raise ``InvalidResponse`` if more is announced, or arrives, than any answer of ours has."""
        self._bytes += len(data)
        if self._bytes > MOST_BYTES:
            raise InvalidResponse(f"an answer of more than {MOST_BYTES:,} bytes")
        at = 0
        while at < len(data):
            if self._to_skip:
                step = min(self._to_skip, len(data) - at)
                at += step
                self._to_skip -= step
                continue
            end = data.find(b"\n", at)
            line = self._line + data[at : end if end >= 0 else None]
            if len(line) > LONGEST_LINE:
                raise InvalidResponse(f"a line of more than {LONGEST_LINE:,} bytes")
            if end < 0:
                self._line = line
                return
            self._line = b""
            at = end + 1
            self._announced(line)

    def _announced(self, line: bytes) -> None:
        kind = line[:1]
        if not kind or kind not in BULKS + AGGREGATES:
            return
        try:
            length = int(line[1:])
        except ValueError:
            return  # the parser refuses it
        if length > (MOST_BYTES if kind in BULKS else MOST_ELEMENTS):
            raise InvalidResponse(f"an answer that announces {line[:24]!r}")
        if kind in BULKS and length >= 0:
            self._to_skip = length + len("\r\n")
