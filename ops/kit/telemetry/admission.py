"""How many connections a server has, and how much its peers can make it hold: shared by all connections of one server.

Ordinary connections have *seats*. When all are taken, the oldest connection that has not sent a whole head yet makes
room. Where there is none, a new connection gets a place in the *reserve*, which serves health alone; and where that is
full too, it is closed at once. So neither half-sent requests nor busy clients keep a probe out.

The *budget* counts the bytes of all requests that have not been answered yet.
"""

import asyncio
import resource
from enum import Enum
from typing import Protocol

from unlost.ops.kit.telemetry.pacer import Pacer

SEATS = 1_000
RESERVE = 32
MOST_FILES = 16_384
CHECK_EVERY = 1.0


class Place(Enum):
    """What a new connection gets."""

    SEAT = "seat"
    RESERVE = "reserve"
    NONE = "none"


class Guarded(Protocol):
    """A connection, as seen from here."""

    def drop(self) -> None:
        """Close without an answer: another connection needs the seat."""

    def check(self) -> None:
        """A second has passed: see whether the peer still does its part."""


class Admission:
    """Seats, reserve and budget of one server."""

    def __init__(self, *, budget: int, seats: int = SEATS, reserve: int = RESERVE) -> None:
        self._budget = budget
        self._seats = seats
        self._reserve = reserve
        self._present: set[Guarded] = set()
        self._unproven: dict[Guarded, None] = {}  # the oldest first
        self._held = 0
        self.pacer = Pacer()

    def enter(self, connection: Guarded) -> Place:
        """A connection came."""
        if len(self._present) >= self._seats and self._unproven:
            oldest = next(iter(self._unproven))
            self.leave(oldest)
            oldest.drop()
        here = len(self._present)
        if here >= self._seats + self._reserve:
            return Place.NONE
        self._present.add(connection)
        self._unproven[connection] = None
        return Place.SEAT if here < self._seats else Place.RESERVE

    def prove(self, connection: Guarded) -> None:
        """It has sent a whole head."""
        self._unproven.pop(connection, None)

    def leave(self, connection: Guarded) -> None:
        """It is gone, or soon will be."""
        self._present.discard(connection)
        self._unproven.pop(connection, None)

    def hold(self, change: int) -> bool:
        """So many bytes more are held, or fewer; False where the budget does not allow it."""
        if change > 0 and self._held + change > self._budget:
            return False
        self._held += change
        return True

    async def watch(self) -> None:
        """Have each connection checked, once a second."""
        while True:
            await asyncio.sleep(CHECK_EVERY)
            for one in tuple(self._present):
                one.check()


def seats_within(wanted: int) -> int:
    """As many as asked for, but no more than half of the files that this process may have: others need them too."""
    return min(wanted, files_allowed() // 2)


def files_allowed() -> int:
    """How many this process may have open, after asking for more where they are few."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return MOST_FILES
    if soft < MOST_FILES:
        soft = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return soft
