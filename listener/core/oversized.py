"""A message larger than any event may be: measured while it streams by, so that memory never holds it. Pure."""

import hashlib

import msgspec

HEAD_BYTES = 4096
"""So much of its beginning is kept."""


class Oversized(msgspec.Struct, frozen=True, gc=False):
    """What is kept of such a message: its length, its SHA-256 and its first bytes."""

    length: int
    digest: bytes
    head: bytes


class Measure:
    """Takes one message in pieces."""

    def __init__(self) -> None:
        self._length = 0
        self._hash = hashlib.sha256()
        self._head = bytearray()

    def add(self, data: bytes | bytearray | memoryview) -> None:
        """The next piece."""
        self._length += len(data)
        self._hash.update(data)
        if len(self._head) < HEAD_BYTES:
            self._head += data[: HEAD_BYTES - len(self._head)]

    def end(self) -> Oversized:
        """The message is complete."""
        return Oversized(self._length, self._hash.digest(), bytes(self._head))
