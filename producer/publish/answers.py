"""The answers to the lines of a batch, kept until the last line is read, because only then the HTTP status is known.

A line of two bytes can have an answer of two hundred. So beyond a size that ordinary batches do not reach, answers are
kept compressed, at a tenth of their size or less. They are unpacked piece by piece while the publisher reads them.
"""

import zlib
from collections.abc import AsyncIterator, Iterator

PLAIN_BYTES = 16 * 1024 * 1024
"""Below this size, compression would cost time and save little memory."""
QUICKLY = 1


class Answers:
    """Text that is appended to, and then read once."""

    def __init__(self, *, plain_bytes: int = PLAIN_BYTES) -> None:
        self._plain_bytes = plain_bytes
        self._plain: list[bytes] = []
        self._packed: list[bytes] = []
        self.size = 0
        """The total size, uncompressed."""

    def add(self, lines: bytes) -> None:
        """Append text. Once some text was compressed, all later text is, too."""
        self.size += len(lines)
        if self._packed or self.size > self._plain_bytes:
            self._packed.append(zlib.compress(lines, QUICKLY))
        else:
            self._plain.append(lines)

    @property
    def is_plain(self) -> bool:
        """Whether nothing is compressed."""
        return not self._packed

    def whole(self) -> bytes:
        """All text at once."""
        return b"".join(self._pieces())

    async def pieces(self) -> AsyncIterator[bytes]:
        """The text piece by piece, so that a caller can wait between pieces."""
        for piece in self._pieces():
            yield piece

    def _pieces(self) -> Iterator[bytes]:
        yield from self._plain
        yield from map(zlib.decompress, self._packed)
