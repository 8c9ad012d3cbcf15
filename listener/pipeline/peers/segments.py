"""Stretches: pieces of a stream, cut by what is in it, so that whoever hears it cuts it alike. Pure.

A frame whose checksum says so ends a stretch, and says whose the next one is: nobody need count or be told, and it is
the same from wherever one begins to read. A stretch that has ended has a name, made of all of its bytes. Whoever
has settled each event in it tells that name to where claims are kept; who received the same bytes finds it there, and
is done with all of them unread. Bytes that differ have another name, which nobody has told.
"""

import hashlib
from array import array
from collections.abc import Callable, Sequence
from zlib import crc32

import msgspec

from unlost.listener.core.claim import ClaimRequest
from unlost.listener.core.watermark import Position

LONGEST = 8
"""What grows to so many times the usual length is nobody's from then on: in some sources nothing ends a stretch."""
TAIL = b',"cursor":"'
LONGEST_TAIL = 600


class Segment:
    """Frames from one that ends a stretch to the next. ``name``: what is looked for, once it has ended."""

    __slots__ = ("_bytes", "_lengths", "is_of_peer", "name", "unsettled")

    def __init__(self, *, is_of_peer: bool) -> None:
        self.is_of_peer = is_of_peer
        self.name: ClaimRequest | None = None
        self.unsettled = 0
        """Of one's own: at how many positions something is not settled yet."""
        self._bytes = hashlib.sha256()
        self._lengths: list[int] = []

    def __len__(self) -> int:
        return len(self._lengths)

    def add(self, frames: Sequence[bytes]) -> None:
        """These come next in it."""
        self._bytes.update(b"".join(frames))
        self._lengths += map(len, frames)

    def end(self) -> None:
        """Nothing more comes. Read from its end, what was hashed tells how many frames there are, and how long each."""
        self._bytes.update(array("Q", (*self._lengths, len(self._lengths))).tobytes())
        self.name = ClaimRequest(f"stretch:{self._bytes.hexdigest()}", self._bytes.digest())


class Part(msgspec.Struct, eq=False):
    """Frames of a peer's stretch, received in one go and not read; or none, to learn only what becomes of it."""

    segment: Segment
    frames: Sequence[bytes] = ()
    position: Position | None = None
    received_at: float = 0.0
    received_clock: float = 0.0
    waited: bool = False
    """It was looked at once, and is waited for again."""


class Segmenter:
    """Cuts one stream."""

    def __init__(self, share: Callable[[], tuple[int, int]], *, length: int) -> None:
        """Make one. ``share``: this listener's number, and how many they are; ``length``: of a stretch, on average."""
        self._share = share
        self._length = length
        self._current: Segment | None = None

    def begin_anew(self) -> None:
        """The stream goes on elsewhere: it is not known where a stretch began."""
        self._current = None

    def cut(self, frames: Sequence[bytes]) -> list[tuple[Sequence[bytes], Segment | None]]:
        """These frames in pieces, each with the stretch that it belongs to, which may have ended with it.

        Where nobody else listens, or it is not known where a stretch began, it belongs to none.
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


def cursor_at_end(frame: bytes) -> str | None:
    """The cursor, if it is the frame's last field and plain. Where the frame is an event, it can be nothing else."""
    _, found, rest = frame[-LONGEST_TAIL:].rpartition(TAIL)
    cursor = rest[:-2]
    if not found or rest[-2:] != b'"}' or b'"' in cursor or b"\\" in cursor or not cursor.isascii():
        return None
    return cursor.decode()
