"""A yardstick for times: what the product took, and what the machine itself stood still meanwhile.

Tests run side by side on machines that others use too, and a disk that takes a second to sync makes everything late
that waits for it. Beside what is timed a commit is made again and again, by a thread and a connection of its own: what
one takes beyond the usual is no fault of the product's. It is granted twice, since it may be waited out by a time limit
and once more by what is tried after it.
"""

import asyncio
import threading
import time
from types import TracebackType
from typing import Self

import asyncpg

EVERY_SECONDS = 0.02
USUAL_SECONDS = 0.05
COMMIT = "begin; select pg_current_xact_id(); commit"


class Yardstick:
    """Used as a context; ``seconds`` is what passed since it was entered, without what the machine stood still."""

    def __init__(self, database_url: str) -> None:
        self._url = database_url
        self._ended = threading.Event()
        self._ready = threading.Event()
        self._stood_still = 0.0
        self._began = 0.0
        self._thread = threading.Thread(target=lambda: asyncio.run(self._commit_again_and_again()), name="yardstick")

    async def __aenter__(self) -> Self:
        self._thread.start()
        await asyncio.to_thread(self._ready.wait)
        self._started = time.monotonic()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        await asyncio.to_thread(self._thread.join)

    @property
    def seconds(self) -> float:
        """What passed, less what the machine is to blame for."""
        return time.monotonic() - self._started - 2 * (self._stood_still + self._late)

    @property
    def _late(self) -> float:
        """How much longer than usual the commit under way has taken until now."""
        return max(0.0, time.monotonic() - self._began - EVERY_SECONDS - USUAL_SECONDS)

    async def _commit_again_and_again(self) -> None:
        connection = await asyncpg.connect(self._url)
        try:
            while not self._ended.is_set():
                self._began = time.monotonic()
                await asyncio.sleep(EVERY_SECONDS)
                await connection.execute(COMMIT)
                if self._ready.is_set():
                    self._stood_still += self._late
                self._ready.set()
        finally:
            self._ready.set()
            await connection.close()
