"""What waits before a stage. A stage takes all that waits, up to a limit: batches without timers.

Where nobody waits for a stage, it may be spaced: what comes soon after a batch gathers until the next is due.
"""

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Generic, TypeVar

T = TypeVar("T")


class BatchQueue(Generic[T]):
    """An unbounded queue for one consumer or a few; what it holds is bounded at the intake."""

    def __init__(self, *, spacing: float = 0.0) -> None:
        """Make one, of which a batch is taken once in ``spacing`` seconds, or when it is full."""
        self._items: deque[T] = deque()
        self._behind: deque[T] = deque()
        self._spacing = spacing
        self._taken_at = float("-inf")
        self._idle: deque[asyncio.Future[None]] = deque()
        self._woken = False
        self._loop: asyncio.AbstractEventLoop | None = None

    def __len__(self) -> int:
        return len(self._items) + len(self._behind)

    @property
    def calm(self) -> bool:
        """Whether nothing waits but what can wait."""
        return not self._items

    def waiting(self) -> list[T]:
        """All that waits now."""
        return [*self._items, *self._behind]

    def put(self, item: T) -> None:
        """Add one."""
        self._items.append(item)
        if self._idle:
            self._wake()

    def put_all(self, items: Iterable[T]) -> None:
        """Add many."""
        self._items.extend(items)
        if self._idle:
            self._wake()

    def put_behind(self, items: Iterable[T]) -> None:
        """Add what can wait until nothing else does."""
        self._behind.extend(items)
        self._wake()

    async def take(self, limit: int) -> list[T]:
        """All that waits, up to ``limit``; at least one."""
        while not self._items and not self._behind:
            if self._loop is None:
                self._loop = asyncio.get_running_loop()  # on Python 3.11 a system call, so it is asked once
            waiter = self._loop.create_future()
            self._idle.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                if not waiter.cancelled():  # woken, but it will not look: somebody else must
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
        if self._idle:
            self._wake()
        return batch

    def _wake(self) -> None:
        """Have one who is idle look, if there is something, and nobody who was woken has yet to look."""
        while self._idle and not self._woken and (self._items or self._behind):
            waiter = self._idle.popleft()
            if not waiter.done():
                waiter.set_result(None)
                self._woken = True

    async def _space(self, limit: int) -> None:
        clock = asyncio.get_running_loop().time
        pause = self._taken_at + self._spacing - clock()
        if pause > 0 and len(self._items) < limit:
            await asyncio.sleep(pause)
        self._taken_at = clock()
