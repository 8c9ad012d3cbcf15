"""Suspects: events whose owner's lease ran out, so one of them may have killed it. Decides how many run together. Pure.

Half of the waiting suspects run first, then the other half. No group is larger than the number of handlers that may run
at once. Most owners do not die of a poison event. A group that its owner survives is settled. If the owner dies, each
member may be taken over with at most half as many as before; the claims remember that number (``Lapsed.most``): 8, 4,
2, then alone. So an event that kills its owners ends up alone, and only then does a lost owner count against it.
"""

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence

import msgspec

from unlost.listener.core.in_flight import InFlight


class Suspect(msgspec.Struct, frozen=True):
    """A waiting suspect. ``most``: in how large a group it may be taken over; ``None``: in any."""

    flight: InFlight
    most: int | None


def group_size(limits: Sequence[int | None], limit: int) -> int:
    """Return how many of the first run together: at most ``limit``, and no more than any of them allows."""
    size = 0
    for most in limits:
        limit = limit if most is None else min(limit, most)
        if size >= limit:
            break
        size += 1
    return size


class Suspects:
    """The suspects that wait, for one consumer."""

    def __init__(self, *, at_once: int) -> None:
        self._at_once = at_once
        self._waiting: deque[Suspect] = deque()
        self._together = 0
        """The largest number that waited since the queue was last empty."""
        self._some = asyncio.Event()

    def put_all(self, suspects: Iterable[Suspect]) -> None:
        """Add suspects."""
        self._waiting.extend(suspects)
        self._together = max(self._together, len(self._waiting))
        if self._waiting:
            self._some.set()

    def waiting(self) -> list[InFlight]:
        """Return those that wait."""
        return [suspect.flight for suspect in self._waiting]

    async def wait(self) -> None:
        """Return once a suspect waits."""
        await self._some.wait()

    def take_group(self) -> list[Suspect]:
        """Take the suspects that run together next."""
        half = (self._together + 1) // 2
        size = group_size([suspect.most for suspect in self._waiting], min(self._at_once, half))
        group = [self._waiting.popleft() for _ in range(size)]
        if not self._waiting:
            self._some.clear()
            self._together = 0
        return group
