"""The tail: the newest frames, ready to send, shared by all live clients. Its count and size are bounded.

A frame is built once, as the bytes that go over the wire. Frames from a server are not masked, and here they are not
compressed, so they are the same for all clients. The library's ``Frame.serialize`` takes six times as long.
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
    """The event's text with ``cursor`` added as its last field. The text has at least an id, so a comma is right."""
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
    """Consecutive frames, and callbacks for new ones."""

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
        """Add new entries and call the subscribers. Frames are built when they are first read, if ever.

        Without subscribers nothing is kept. A client that comes later reads from the journal what it missed.
        """
        if newest <= self.newest:
            return  # another producer's newer entries were announced first
        before, self.newest = self.newest, newest
        if not self._readers:
            self._forget()
            return
        new = list(entries)
        if not new or (new[0].number, new[-1].number) != (before + 1, newest) or len(new) != newest - before:
            # Another writer came between, and these frames would follow a gap. The journal has all of them.
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
        """Frames after ``number``, up to both limits, or None if the tail does not reach back that far."""
        self._frame()
        start = number - (self.newest - len(self._frames))
        if start < 0:
            return None
        if len(self._frames) - start <= limit and start > len(self._frames) // 2:
            # A deque is slow in its middle, and nearly all readers are near its newest end.
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

    def subscribe(self, grown: Callable[[], None]) -> None:
        """Call this function whenever there are new entries."""
        self._readers.add(grown)

    def unsubscribe(self, grown: Callable[[], None]) -> None:
        """Remove a subscriber."""
        self._readers.discard(grown)


def within(frames: Iterable[bytes], max_bytes: int) -> list[bytes]:
    """The first frames until they reach ``max_bytes``, but at least one if there is one."""
    taken, size = [], 0
    for frame in frames:
        taken.append(frame)
        size += len(frame)
        if size >= max_bytes:
            break
    return taken
