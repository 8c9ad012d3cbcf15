"""Order per key: which event of each key may be claimed, and which may start. Pure.

A listener starts no event before the previous one of its key, in the stream that it received, is settled. All listeners
receive one order, so this local rule keeps it for the group. PostgreSQL's insert keeps the order behind a letter: it
refuses a row whose key is blocked by an earlier letter (``rows.sql``).

The listener that holds the first event of a key may claim those behind it *ahead*. They are held but do not start, so
the next one needs no call to Redis when its turn comes. Without a handler, held events start together as a *run*: one
statement stores all of them, or none but the first. So no row comes before the one that it must follow.

Events from letters are not here. PostgreSQL has their order.
"""

from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice

from unlost.listener.core.in_flight import InFlight


class KeyOrder:
    """The events in memory that have a key: of each key one is under way, or a run, and all others wait behind it."""

    def __init__(self) -> None:
        self.used = False
        """Whether any source has events with keys."""
        self._going: dict[str, dict[InFlight, None]] = {}
        self._behind: dict[str, deque[InFlight]] = {}
        self.waiting = 0
        """How many events wait behind another one of their key."""
        self.ahead: dict[InFlight, None] = {}
        """Those of them that are claimed ahead."""

    def admit(self, flights: Sequence[InFlight]) -> list[InFlight]:
        """Take in events in the order of the source; return those that may be claimed now."""
        return [flight for flight in flights if self._may_go(flight)]

    def come_next(self, flight: InFlight) -> None:
        """Take in an event before those that wait for their turn, unless it has a place already."""
        key = flight.order_key
        if key is None or flight.revive or flight.waits_for_key:
            return
        if (going := self._going.get(key)) and flight not in going:
            self._wait(key, flight, first=True)

    def _may_go(self, flight: InFlight) -> bool:
        key = flight.order_key
        if key is None or flight.revive:
            return True
        if flight.waits_for_key:  # it followed an event of its name, and has had its place since then
            return False
        going = self._going.get(key)
        if going is None:
            self._going[key] = {flight: None}
            return True
        if flight in going:
            return True
        self._wait(key, flight)
        return False

    def _wait(self, key: str, flight: InFlight, *, first: bool = False) -> None:
        behind = self._behind.setdefault(key, deque())
        (behind.appendleft if first else behind.append)(flight)
        flight.waits_for_key = True
        self.waiting += 1

    def next_of(self, flight: InFlight, most: int) -> list[InFlight]:
        """Return the next events behind the one of this key that is under way, in their order."""
        if flight.revive or flight.order_key is None:
            return []
        behind = self._behind.get(flight.order_key)
        return list(islice(behind, most)) if behind else []

    def claim_ahead(self, flights: Sequence[InFlight]) -> None:
        """Record that these are claimed while they wait."""
        for flight in flights:
            flight.ahead = "asked"
            self.ahead[flight] = None

    def not_ahead(self, flight: InFlight) -> None:
        """Record that an event is not claimed ahead, or not any more: it is claimed in its turn."""
        flight.ahead = ""
        self.ahead.pop(flight, None)

    def run_of(self, first: InFlight, most: int, is_held: Callable[[InFlight], bool]) -> list[InFlight]:
        """Let the events that are held directly behind this one start with it; return them, in their order."""
        key, run = first.order_key, list[InFlight]()
        if key is None or (going := self._going.get(key)) is None or first not in going:
            return run
        while (behind := self._behind.get(key)) and len(run) < most and is_held(behind[0]):
            following = behind.popleft()
            self._leave(key, following)
            going[following] = None
            run.append(following)
        return run

    def wait_again(self, run: Sequence[InFlight]) -> None:
        """Let the events of a run wait again: they were not stored with the first. Their claims are kept.

        Those that ended meanwhile are passed over: at a stop, they may have got their letters.
        """
        for flight in reversed(run):
            key = flight.order_key
            if key is None or flight not in (going := self._going.get(key, {})):
                continue
            del going[flight]
            self._wait(key, flight, first=True)
            flight.ahead = "held"
            self.ahead[flight] = None

    def settled(self, flight: InFlight) -> InFlight | None:
        """Record that an event is settled; return the one whose turn comes now, if any. Twice is as once."""
        key = flight.order_key
        if key is None:
            return None
        if flight.waits_for_key:  # it was stopped, or its copy elsewhere in memory ended it, or a peer settled it
            self._behind[key].remove(flight)
            self._leave(key, flight)
        elif (going := self._going.get(key)) is not None and flight in going:
            del going[flight]
            if not going:
                return self._next(key)
        return None

    def _next(self, key: str) -> InFlight | None:
        behind = self._behind.get(key)
        if not behind:
            del self._going[key]
            return None
        following = behind.popleft()
        self._going[key] = {following: None}
        self._leave(key, following)
        return following

    def _leave(self, key: str, flight: InFlight) -> None:
        flight.waits_for_key = False
        self.waiting -= 1
        self.ahead.pop(flight, None)
        if not self._behind[key]:
            del self._behind[key]
