"""Collects bytes that come in pieces of any size, using about as much memory as they have bytes.

One growing array is moved as it grows. When hundreds of requests grow side by side, the holes that it leaves take as
much memory as the data. A list of pieces costs forty bytes per piece, and a piece may be one byte.
"""

LEAST = 16 * 1024
"""Shorter pieces are joined."""


class PieceBuffer:
    """The pieces so far."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._short = bytearray()
        self._size = 0

    def __len__(self) -> int:
        """How many bytes were collected."""
        return self._size

    def add(self, piece: bytes) -> None:
        """Append a piece."""
        self._size += len(piece)
        if len(piece) >= LEAST and not self._short:
            self._pieces.append(piece)
            return
        self._short += piece
        if len(self._short) >= LEAST:
            self._pieces.append(bytes(self._short))
            self._short.clear()

    def take(self) -> bytes:
        """Return all bytes and start again empty."""
        whole = b"".join([*self._pieces, self._short])
        self._pieces.clear()
        self._short.clear()
        self._size = 0
        return whole
