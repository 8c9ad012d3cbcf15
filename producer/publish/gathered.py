"""Bytes that come in pieces of any size, kept at the cost of their size.

One array that grows with each piece moves as it grows; where hundreds of requests grow side by side, the holes that
they leave take as much memory as they do. A list of pieces takes forty bytes for each, and a piece may be one byte.
"""

LEAST = 16 * 1024
"""Pieces shorter than this are put together."""


class Gathered:
    """The pieces so far."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._short = bytearray()
        self._size = 0

    def __len__(self) -> int:
        """How many bytes there are."""
        return self._size

    def add(self, piece: bytes) -> None:
        """Put it behind the others."""
        self._size += len(piece)
        if len(piece) >= LEAST and not self._short:
            self._pieces.append(piece)
            return
        self._short += piece
        if len(self._short) >= LEAST:
            self._pieces.append(bytes(self._short))
            self._short.clear()

    def take(self) -> bytes:
        """All of it; nothing is left."""
        whole = b"".join([*self._pieces, self._short])
        self._pieces.clear()
        self._short.clear()
        self._size = 0
        return whole
