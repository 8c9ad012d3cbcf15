"""Follows the other producers of a shared journal, so that clients of this one get their events, too."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from unlost.producer.journal.port import HistoryLost, Journal, JournalError
from unlost.producer.stream.tail import Tail

LOOK_EVERY = 1.0
"""Seconds after which the journal is read without an announcement, since one can be lost with its connection."""


class Following:
    """Moves the tail behind what others have written. Clients then read that from the journal."""

    def __init__(self, journal: Journal, tail: Tail, failed: Callable[[JournalError], None]) -> None:
        self._journal = journal
        self._tail = tail
        self._failed = failed
        self._grew = asyncio.Event()
        self._newest = 0

    async def run(self) -> None:
        """Follow until cancelled; end at once if there can be no other producers. Raises ``HistoryLost``."""
        loop = asyncio.get_running_loop()

        def grew(newest: int) -> None:
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._announced, newest)

        if not self._journal.follow(grew):
            return
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY):
                    await self._grew.wait()
            await self._look()
            self._tail.extend(self._newest, ())

    def _announced(self, newest: int) -> None:
        self._newest = max(self._newest, newest)
        self._grew.set()

    async def _look(self) -> None:
        if self._grew.is_set():
            self._grew.clear()
            return
        try:
            self._newest = (await asyncio.to_thread(self._journal.bounds))[1]
        except HistoryLost:
            raise
        except JournalError as error:
            self._failed(error)
