"""The tail: the newest events, shared by all live clients. Its count and size are bounded."""

from collections import deque
from collections.abc import Callable, Iterable
from itertools import islice

from unlost.producer.journal.port import Entry


class Tail:
    """Consecutive bodies, and callbacks for new ones."""

    def __init__(self, newest: int, *, most: int = 20_000, most_bytes: int = 32 * 1024 * 1024) -> None:
        self._bodies: deque[bytes] = deque()
        self._size = 0
        self._most = most
        self._most_bytes = most_bytes
        self.newest = newest
        self._readers: set[Callable[[], None]] = set()

    def extend(self, newest: int, entries: Iterable[Entry]) -> None:
        """Add new entries and call the subscribers.

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
            # Another writer came between, and these would follow a gap. The journal has all of them.
            self._forget()
            new = []
        self._bodies.extend([entry.body for entry in new])
        self._size += sum([len(entry.body) for entry in new])
        while len(self._bodies) > self._most or self._size > self._most_bytes:
            self._size -= len(self._bodies.popleft())
        for grown in tuple(self._readers):
            grown()

    def _forget(self) -> None:
        self._bodies.clear()
        self._size = 0

    def after(self, number: int, limit: int, max_bytes: int) -> list[bytes] | None:
        """Bodies after ``number``, up to both limits, or None if the tail does not reach back that far."""
        start = number - (self.newest - len(self._bodies))
        if start < 0:
            return None
        if len(self._bodies) - start <= limit and start > len(self._bodies) // 2:
            # A deque is slow in its middle, and nearly all readers are near its newest end.
            newest = list(islice(reversed(self._bodies), len(self._bodies) - start))
            newest.reverse()
            return within(newest, max_bytes)
        return within(islice(self._bodies, start, start + limit), max_bytes)

    def subscribe(self, grown: Callable[[], None]) -> None:
        """Call this function whenever there are new entries."""
        self._readers.add(grown)

    def unsubscribe(self, grown: Callable[[], None]) -> None:
        """Remove a subscriber."""
        self._readers.discard(grown)


def within(bodies: Iterable[bytes], max_bytes: int) -> list[bytes]:
    """The first bodies until they reach ``max_bytes``, but at least one if there is one."""
    taken, size = [], 0
    for body in bodies:
        taken.append(body)
        size += len(body)
        if size >= max_bytes:
            break
    return taken
