"""Suspects: events whose owner's lease ran out, so one of them may be what killed it. How many run together. Pure.

One half of those that wait runs, then the other; no group is larger than the number of handlers that may run at once.
One poison event is the exception, and most owners die of something else. A group that its owner survives is settled.
After another death each of its members may be taken over with half as many as before, at most, which the claims
remember (``Lapsed.most``): 8, 4, 2, and then alone. So what kills its owners ends up alone, and only then does a lost
owner count against it.
"""

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence

import msgspec

from unlost.listener.core.in_flight import InFlight


class Suspect(msgspec.Struct, frozen=True):
    """One that waits, and in how large a group it may be taken over; ``None``: in any."""

    flight: InFlight
    most: int | None


def group_size(limits: Sequence[int | None], limit: int) -> int:
    """How many of the first of these run together: no more than ``limit``, nor than any of them allows."""
    size = 0
    for most in limits:
        limit = limit if most is None else min(limit, most)
        if size >= limit:
            break
        size += 1
    return size


class Suspects:
    """Those that wait, for one consumer."""

    def __init__(self, *, at_once: int) -> None:
        self._at_once = at_once
        self._waiting: deque[Suspect] = deque()
        self._together = 0
        """The most that have waited at a time since none did."""
        self._some = asyncio.Event()

    def put_all(self, suspects: Iterable[Suspect]) -> None:
        """Add some."""
        self._waiting.extend(suspects)
        self._together = max(self._together, len(self._waiting))
        if self._waiting:
            self._some.set()

    async def wait(self) -> None:
        """Return when some wait."""
        await self._some.wait()

    def take_group(self) -> list[Suspect]:
        """Those that run together next."""
        half = (self._together + 1) // 2
        size = group_size([suspect.most for suspect in self._waiting], min(self._at_once, half))
        group = [self._waiting.popleft() for _ in range(size)]
        if not self._waiting:
            self._some.clear()
            self._together = 0
        return group
