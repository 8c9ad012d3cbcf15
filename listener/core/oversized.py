"""A message that is too large for an event: measured as it arrives, and never held in memory whole. Pure."""

import hashlib

import msgspec

HEAD_BYTES = 4096
"""How many bytes of its beginning are kept."""


class Oversized(msgspec.Struct, frozen=True, gc=False):
    """The kept parts of such a message: its length, its SHA-256 and its first bytes."""

    length: int
    digest: bytes
    head: bytes


class Measure:
    """Measures one message, piece by piece."""

    def __init__(self) -> None:
        self._length = 0
        self._hash = hashlib.sha256()
        self._head = bytearray()

    def add(self, data: bytes | bytearray | memoryview) -> None:
        """Add the next piece."""
        self._length += len(data)
        self._hash.update(data)
        if len(self._head) < HEAD_BYTES:
            self._head += data[: HEAD_BYTES - len(self._head)]

    def end(self) -> Oversized:
        """Complete the message."""
        return Oversized(self._length, self._hash.digest(), bytes(self._head))
