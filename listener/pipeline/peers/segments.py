"""Segments: pieces of a stream, cut by its content, so that all listeners that receive it cut alike. Pure.

A frame with a certain checksum ends a segment and decides which listener owns the next one. So listeners need not
exchange anything, and cut alike wherever they began to read. A segment that has ended has a name, made
from all its bytes. The listener that has settled every event in it writes that name to where claims are kept. A
listener that received the same bytes finds the name there, and ends all of them without reading them. Other bytes have
another name, which nobody has written.
"""

import hashlib
from array import array
from collections.abc import Callable, Sequence
from zlib import crc32

import msgspec

from unlost.listener.core.claim import ClaimRequest
from unlost.listener.core.watermark import Position

LONGEST = 8
"""A segment that grows to this many times the usual length belongs to nobody: in some sources no frame ends one."""


class Segment:
    """The frames from one segment end to the next. ``name``: the claim to look up, once the segment has ended."""

    __slots__ = ("_bytes", "_lengths", "is_of_peer", "name", "unsettled")

    def __init__(self, *, is_of_peer: bool) -> None:
        self.is_of_peer = is_of_peer
        self.name: ClaimRequest | None = None
        self.unsettled = 0
        """In an own segment: how many positions are not settled yet."""
        self._bytes = hashlib.sha256()
        self._lengths: list[int] = []

    def __len__(self) -> int:
        return len(self._lengths)

    def add(self, frames: Sequence[bytes]) -> None:
        """Append these frames."""
        self._bytes.update(b"".join(frames))
        self._lengths += map(len, frames)

    def end(self) -> None:
        """End the segment. The hashed lengths, read from the end, say how many frames it has and how long each is."""
        self._bytes.update(array("Q", (*self._lengths, len(self._lengths))).tobytes())
        self.name = ClaimRequest(f"segment:{self._bytes.hexdigest()}", self._bytes.digest())


class SegmentPiece(msgspec.Struct, eq=False):
    """Frames of a peer's segment, received together and not read. Without frames, only the segment is checked."""

    segment: Segment
    frames: Sequence[bytes] = ()
    cursors: Sequence[str | None] = ()
    position: Position | None = None
    received_at: float = 0.0
    received_clock: float = 0.0
    waited: bool = False
    """It was checked once, and waits again."""


class Segmenter:
    """Cuts one stream."""

    def __init__(self, share: Callable[[], tuple[int, int]], *, length: int) -> None:
        """Make one. ``share``: this listener's number, and how many there are. ``length``: of a segment, on average."""
        self._share = share
        self._length = length
        self._current: Segment | None = None

    def begin_anew(self) -> None:
        """Start again: reading continues elsewhere, so it is unknown where a segment began."""
        self._current = None

    def cut(self, frames: Sequence[bytes]) -> list[tuple[Sequence[bytes], Segment | None]]:
        """Cut frames into pieces, each with its segment, which may have ended with it.

        A piece has no segment if there is no other listener, or if it is unknown where the segment began.
        """
        number, count = self._share()
        if count == 1:
            self._current = None
            return [(frames, None)]
        pieces: list[tuple[Sequence[bytes], Segment | None]] = []
        begin = 0
        for last, checksum in enumerate(map(crc32, frames), 1):
            if checksum % self._length == 0:
                pieces.append(self._piece(frames[begin:last]))
                if self._current is not None:
                    self._current.end()
                self._current = Segment(is_of_peer=checksum // self._length % count != number)
                begin = last
        if begin < len(frames):
            pieces.append(self._piece(frames[begin:]))
        return pieces

    def _piece(self, frames: Sequence[bytes]) -> tuple[Sequence[bytes], Segment | None]:
        if self._current is not None:
            self._current.add(frames)
            if len(self._current) > LONGEST * self._length:
                self._current = None
        return frames, self._current
