"""Suspects: events whose owner's lease ran out, so one of them may be what killed it. How many run together. Pure.

Half of those that wait run together, at most as many as handlers may run at once: one poison event is the exception,
and most owners die of something else. A group that its owner survives is settled. After another death each of its
members may be taken over with half as many as before, at most, which the claims remember (``Lapsed.most``): 8, 4, 2,
and then alone. So what kills its owners ends up alone, and only then does a lost owner count against it.
"""

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence

import msgspec

from listener.pipeline.passage import Passage


class Suspect(msgspec.Struct, frozen=True):
    """One that waits, and in how large a group it may be taken over; ``None``: in any."""

    passage: Passage
    most: int | None


def group_size(limits: Sequence[int | None], at_once: int) -> int:
    """How many of the first of these run together."""
    size, limit = 0, min(at_once, (len(limits) + 1) // 2)
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
        self._some = asyncio.Event()

    def put_all(self, suspects: Iterable[Suspect]) -> None:
        """Add some."""
        self._waiting.extend(suspects)
        if self._waiting:
            self._some.set()

    async def wait(self) -> None:
        """Return when some wait."""
        await self._some.wait()

    def take_group(self) -> list[Suspect]:
        """Those that run together next."""
        size = group_size([suspect.most for suspect in self._waiting], self._at_once)
        group = [self._waiting.popleft() for _ in range(size)]
        if not self._waiting:
            self._some.clear()
        return group
