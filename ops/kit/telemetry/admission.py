"""Bounds the connections of one server, and the memory that its peers can make it use.

An ordinary connection takes a *seat*. When all seats are taken, the oldest connection that has not yet sent a complete
head is closed. If there is none, the new connection gets a place in the *reserve*, which serves only health requests.
If the reserve is full too, the new connection is closed at once. So neither half-sent requests nor busy clients can
keep a probe out.

The *budget* limits the bytes of all unanswered requests together.
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


class Seating(Enum):
    """Where a new connection is put."""

    SEAT = "seat"
    RESERVE = "reserve"
    NONE = "none"


class Guarded(Protocol):
    """The part of a connection that ``Admission`` uses."""

    def drop(self) -> None:
        """Close without a response: another connection needs the seat."""

    def check(self) -> None:
        """Check, once a second, that the peer still sends what it owes."""


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

    def enter(self, connection: Guarded) -> Seating:
        """Admit a new connection; this may drop an older one."""
        if len(self._present) >= self._seats and self._unproven:
            oldest = next(iter(self._unproven))
            self.leave(oldest)
            oldest.drop()
        here = len(self._present)
        if here >= self._seats + self._reserve:
            return Seating.NONE
        self._present.add(connection)
        self._unproven[connection] = None
        return Seating.SEAT if here < self._seats else Seating.RESERVE

    def prove(self, connection: Guarded) -> None:
        """Record that the connection has sent a complete head; it will not be dropped for another one."""
        self._unproven.pop(connection, None)

    def leave(self, connection: Guarded) -> None:
        """Free the place of a connection that is closed, or is being closed."""
        self._present.discard(connection)
        self._unproven.pop(connection, None)

    def hold(self, change: int) -> bool:
        """Count ``change`` more bytes (or fewer, if negative). ``False`` if the budget does not allow it."""
        if change > 0 and self._held + change > self._budget:
            return False
        self._held += change
        return True

    async def watch(self) -> None:
        """Check each connection once a second, until cancelled."""
        while True:
            await asyncio.sleep(CHECK_EVERY)
            for one in tuple(self._present):
                one.check()


def seats_within(wanted: int) -> int:
    """``wanted``, but at most half of the file descriptors that this process may open: the rest is for other uses."""
    return min(wanted, files_allowed() // 2)


def files_allowed() -> int:
    """The limit of open files of this process, after raising it if it is low."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return MOST_FILES
    if soft < MOST_FILES:
        soft = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return soft
