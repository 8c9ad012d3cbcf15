"""Order per key: which event of each key may be claimed. Pure.

A listener claims no event before the previous one of its key, in the stream that it received, is settled. All listeners
receive one order, so this local rule keeps it for the group. PostgreSQL's insert keeps the order behind a letter: it
refuses a row whose key is blocked by an earlier letter (``rows.sql``).

Events from letters are not here. PostgreSQL has their order.
"""

from collections import deque
from collections.abc import Sequence

from unlost.listener.core.in_flight import InFlight


class KeyOrder:
    """The events in memory that have a key: of each key one is under way, and all others wait behind it."""

    def __init__(self) -> None:
        self._first: dict[str, InFlight] = {}
        self._behind: dict[str, deque[InFlight]] = {}
        self.waiting = 0
        """How many events wait behind another one of their key."""

    def admit(self, flights: Sequence[InFlight]) -> list[InFlight]:
        """Take in events in the order of the source; return those that may be claimed now."""
        return [flight for flight in flights if self._may_go(flight)]

    def _may_go(self, flight: InFlight) -> bool:
        key = flight.order_key
        if key is None or flight.revive:
            return True
        first = self._first.setdefault(key, flight)
        if first is flight:
            return True
        self._behind.setdefault(key, deque()).append(flight)
        flight.waits_for_key = True
        self.waiting += 1
        return False

    def settled(self, flight: InFlight) -> InFlight | None:
        """Record that an event is settled; return the one that may be claimed now, if any. Twice is as once."""
        key = flight.order_key
        if key is None:
            return None
        if flight.waits_for_key:  # it was stopped, or its copy elsewhere in memory ended it
            self._behind[key].remove(flight)
            self._leave(key, flight)
        elif self._first.get(key) is flight:
            return self._next(key)
        return None

    def _next(self, key: str) -> InFlight | None:
        behind = self._behind.get(key)
        if not behind:
            del self._first[key]
            return None
        following = self._first[key] = behind.popleft()
        self._leave(key, following)
        return following

    def _leave(self, key: str, flight: InFlight) -> None:
        flight.waits_for_key = False
        self.waiting -= 1
        if not self._behind[key]:
            del self._behind[key]
