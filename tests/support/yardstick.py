"""Measures time without the time for which the machine itself was slow.

Tests run in parallel, on machines that others use too. A disk that takes a second to sync delays everything that waits
for it. So while something is timed, a separate thread and connection commit again and again. Whatever such a commit
takes beyond the usual is not the product's fault. It is allowed twice, because the product may wait for it until a time
limit, and once more in its next attempt.
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
    """Use it as a context. ``seconds`` is the time since it was entered, without the machine's delays."""

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
        """The time passed, minus the machine's delays."""
        return time.monotonic() - self._started - 2 * (self._stood_still + self._late)

    @property
    def _late(self) -> float:
        """How much longer than usual the current commit has taken so far."""
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
