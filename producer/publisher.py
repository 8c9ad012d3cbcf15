"""Publishing: many callers, one commit. All that waits is placed in one transaction, off the event loop.

A caller is answered only when its events are on disk. New entries then go to the tail, from which live
clients are served.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from producer.journal.port import Entry, Journal, JournalTrouble, Placed, Publication

MOST_WAITING = 50_000
LARGEST_COMMIT = 4_096

Waiting = tuple[Sequence[Publication], asyncio.Future[list[Placed]]]
Written = tuple[list[Placed], list[Entry]]


class Overloaded(Exception):
    """More waits to be written than the producer is ready to hold."""


class Publisher:
    """Group commit in front of a journal."""

    def __init__(
        self,
        journal: Journal,
        *,
        placed: Callable[[Sequence[Entry]], None],
        committed: Callable[[int, float], None],
        failed: Callable[[JournalTrouble], None],
    ) -> None:
        self._journal = journal
        self._placed = placed
        self._committed = committed
        self._failed = failed
        # A thread of its own: no number of lagging readers may stand in the way of a commit.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="journal-writer")
        self._waiting: deque[Waiting] = deque()
        self._count = 0
        self._filled = asyncio.Event()

    @property
    def is_full(self) -> bool:
        """Whether who comes now is sent away."""
        return self._count >= MOST_WAITING

    async def publish(self, publications: Sequence[Publication]) -> list[Placed]:
        """Place these; returns when they are durable. ``JournalTrouble`` or ``Overloaded`` otherwise."""
        return await self.place(publications)

    def place(self, publications: Sequence[Publication]) -> asyncio.Future[list[Placed]]:
        """Have these placed; the future ends as ``publish`` does, but for ``Overloaded``, which is raised here."""
        if self.is_full:
            raise Overloaded(f"{self._count:,} events wait to be written; slow down")
        future: asyncio.Future[list[Placed]] = asyncio.get_running_loop().create_future()
        self._waiting.append((publications, future))
        self._count += len(publications)
        self._filled.set()
        return future

    async def run(self) -> None:
        """Commit until cancelled; what was taken is finished first."""
        loop = asyncio.get_running_loop()
        while True:
            await self._filled.wait()
            batch = self._take()
            publications = [one for group, _ in batch for one in group]
            started = time.monotonic()
            placing = loop.run_in_executor(self._thread, self._journal.append, publications, time.time())
            try:
                await asyncio.wait((placing,))
            finally:
                if not placing.done():
                    await asyncio.wait((placing,))
                self._tell(batch, placing, time.monotonic() - started)

    def _take(self) -> list[Waiting]:
        batch: list[Waiting] = []
        count = 0
        while self._waiting and count < LARGEST_COMMIT:
            batch.append(self._waiting.popleft())
            count += len(batch[-1][0])
        self._count -= count
        if not self._waiting:
            self._filled.clear()
        return batch

    def _tell(self, batch: Sequence[Waiting], placing: asyncio.Future[Written], seconds: float) -> None:
        try:
            placed, entries = placing.result()
        except JournalTrouble as trouble:
            self._failed(trouble)
            for _, future in batch:
                if not future.done():
                    future.set_exception(trouble)
            return
        self._committed(len(placed), seconds)
        self._placed(entries)
        start = 0
        for group, future in batch:
            if not future.done():
                future.set_result(placed[start : start + len(group)])
            start += len(group)
