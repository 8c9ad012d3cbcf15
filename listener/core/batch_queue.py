"""The queue before a stage. A stage takes everything that waits, up to a limit: batches without timers.

A stage whose result nobody waits for may be spaced. Its items gather until ``spacing`` seconds after the last batch,
and three times as long if that batch was small: a batch costs as much for few items.
"""

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")
SMALL, LONGER = 16, 3


class BatchQueue(Generic[T]):
    """An unbounded queue for one consumer or a few. The intake bounds what it holds."""

    def __init__(self, *, spacing: float = 0.0) -> None:
        """``spacing``: the least number of seconds between two batches, unless a batch is full."""
        self._items: deque[T] = deque()
        self._behind: deque[T] = deque()
        self._spacing = spacing
        self._taken_at = float("-inf")
        self._taken_last = 0
        self._idle: deque[asyncio.Future[None]] = deque()
        self._woken = False
        self._loop: asyncio.AbstractEventLoop | None = None

    def __len__(self) -> int:
        return len(self._items) + len(self._behind)

    @property
    def only_behind(self) -> bool:
        """Whether at most low-priority items wait."""
        return not self._items

    def waiting(self) -> list[T]:
        """Return everything that waits now."""
        return [*self._items, *self._behind]

    def put(self, item: T) -> None:
        """Add one item."""
        self._items.append(item)
        if self._idle:
            self._wake()

    def put_all(self, items: Iterable[T]) -> None:
        """Add many items."""
        self._items.extend(items)
        if self._idle:
            self._wake()

    def put_first(self, items: Sequence[T]) -> None:
        """Add items, in their order, before all others: they have waited longer elsewhere."""
        self._items.extendleft(reversed(items))
        if self._idle:
            self._wake()

    def put_behind(self, items: Iterable[T]) -> None:
        """Add low-priority items: they wait until nothing else does."""
        self._behind.extend(items)
        self._wake()

    def clear(self) -> None:
        """Drop everything that waits."""
        self._items.clear()
        self._behind.clear()

    async def take(self, limit: int) -> list[T]:
        """Take everything that waits, up to ``limit``; at least one item."""
        while not self._items and not self._behind:
            if self._loop is None:
                self._loop = asyncio.get_running_loop()  # a system call on Python 3.11, so called once
            waiter = self._loop.create_future()
            self._idle.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                if not waiter.cancelled():  # it was woken but cannot take anything: wake another
                    self._woken = False
                    self._wake()
                raise
            self._woken = False
        if self._spacing:
            await self._space(limit)
        items = self._items or self._behind
        if len(items) <= limit:
            batch = list(items)
            items.clear()
        else:
            batch = [items.popleft() for _ in range(limit)]
        self._taken_last = len(batch)
        if self._idle:  # something may be left for another consumer
            self._wake()
        return batch

    def _wake(self) -> None:
        """Wake one idle consumer if something waits, unless one is already waking."""
        while self._idle and not self._woken and (self._items or self._behind):
            waiter = self._idle.popleft()
            if not waiter.done():
                waiter.set_result(None)
                self._woken = True

    async def _space(self, limit: int) -> None:
        clock = asyncio.get_running_loop().time
        spacing = self._spacing * (LONGER if self._taken_last < SMALL else 1)
        pause = self._taken_at + spacing - clock()
        if pause > 0 and len(self._items) < limit:
            await asyncio.sleep(pause)
        self._taken_at = clock()
