"""The answers to the lines of a batch, kept until the last line is read, since only then their status is known.

A line of two bytes can have an answer of two hundred. So beyond a size that usual batches stay below, answers are kept
compressed, which makes a tenth of them or less, and are unpacked piece by piece as the publisher reads them.
"""

import zlib
from collections.abc import AsyncIterator, Iterator

PLAIN_BYTES = 16 * 1024 * 1024
"""Up to here compressing would cost time and save little."""
QUICKLY = 1


class Answers:
    """Text that is added at the end, and read once."""

    def __init__(self, *, plain_bytes: int = PLAIN_BYTES) -> None:
        self._plain_bytes = plain_bytes
        self._plain: list[bytes] = []
        self._packed: list[bytes] = []
        self.size = 0
        """Of all of it, as it is read."""

    def add(self, lines: bytes) -> None:
        """What is added after something was compressed is compressed, too."""
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
        """All of it."""
        return b"".join(self._pieces())

    async def pieces(self) -> AsyncIterator[bytes]:
        """One after the other, for who waits between them."""
        for piece in self._pieces():
            yield piece

    def _pieces(self) -> Iterator[bytes]:
        yield from self._plain
        yield from map(zlib.decompress, self._packed)
