"""The tail: the newest frames, ready to send, shared by all live clients; bounded by count and bytes.

A frame is made once, as the bytes that go over the wire: a server's frames are neither masked nor, here, compressed,
so they are the same for all clients. The library's own ``Frame.serialize`` takes six times as long for the same bytes.
"""

import struct
from collections import deque
from collections.abc import Callable, Iterable
from itertools import islice

from unlost.producer.journal.port import Entry
from unlost.producer.journal.timelines import Timelines

_medium = struct.Struct("!BBH").pack
_long = struct.Struct("!BBQ").pack


def frame_of(entry: Entry, timelines: Timelines) -> bytes:
    """The event's own text, which has at least its id, with ``cursor`` as its last field."""
    return b'%b,"cursor":"%b"}' % (entry.body[:-1], timelines.cursor(entry.number).encode())


def wire_of(entry: Entry, timelines: Timelines) -> bytes:
    """The WebSocket text frame that carries ``frame_of`` (RFC 6455, section 5.2)."""
    frame = frame_of(entry, timelines)
    size = len(frame)
    if size < 126:
        return b"\x81%c%b" % (size, frame)
    if size < 1 << 16:
        return _medium(0x81, 126, size) + frame
    return _long(0x81, 127, size) + frame


class Tail:
    """Numbered frames without gaps, and a way to wait for more."""

    def __init__(
        self, timelines: Timelines, newest: int, *, most: int = 20_000, most_bytes: int = 32 * 1024 * 1024
    ) -> None:
        self._timelines = timelines
        self._frames: deque[bytes] = deque()
        self._unframed: deque[Entry] = deque()
        self._size = 0
        self._most = most
        self._most_bytes = most_bytes
        self.newest = newest
        self._readers: set[Callable[[], None]] = set()

    def extend(self, newest: int, entries: Iterable[Entry]) -> None:
        """Add new entries, and wake who waits. Frames are made when the first asks for them, if ever.

        While nobody reads, nothing is kept: who comes then reads from the journal what it missed.
        """
        if newest == self.newest:
            return
        before, self.newest = self.newest, newest
        if not self._readers:
            self._forget()
            return
        new = list(entries)
        if not new or (new[0].number, new[-1].number) != (before + 1, newest) or len(new) != newest - before:
            # Somebody else wrote between: what is here would be sent in the wrong place, and the journal has it all.
            self._forget()
            new = []
        self._unframed.extend(new)
        self._size += sum([len(entry.body) for entry in new])
        while len(self._frames) + len(self._unframed) > self._most or self._size > self._most_bytes:
            self._size -= len(self._frames.popleft()) if self._frames else len(self._unframed.popleft().body)
        for grown in tuple(self._readers):
            grown()

    def _forget(self) -> None:
        self._frames.clear()
        self._unframed.clear()
        self._size = 0

    def after(self, number: int, limit: int, max_bytes: int) -> list[bytes] | None:
        """Frames for the wire after ``number``, up to both limits; None where the tail does not reach back that far."""
        self._frame()
        start = number - (self.newest - len(self._frames))
        if start < 0:
            return None
        if len(self._frames) - start <= limit and start > len(self._frames) // 2:
            # A deque is slow in its middle, and nearly all who ask stand near its newest end.
            newest = list(islice(reversed(self._frames), len(self._frames) - start))
            newest.reverse()
            return within(newest, max_bytes)
        return within(islice(self._frames, start, start + limit), max_bytes)

    def _frame(self) -> None:
        while self._unframed:
            entry = self._unframed.popleft()
            frame = wire_of(entry, self._timelines)
            self._frames.append(frame)
            self._size += len(frame) - len(entry.body)

    def tell(self, grown: Callable[[], None]) -> None:
        """Call this whenever there is more."""
        self._readers.add(grown)

    def tell_no_more(self, grown: Callable[[], None]) -> None:
        """This reader has gone."""
        self._readers.discard(grown)


def within(frames: Iterable[bytes], max_bytes: int) -> list[bytes]:
    """The first frames, until they reach ``max_bytes``: never none where there is one."""
    taken, size = [], 0
    for frame in frames:
        taken.append(frame)
        size += len(frame)
        if size >= max_bytes:
            break
    return taken
