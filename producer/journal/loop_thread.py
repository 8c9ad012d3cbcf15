"""An event loop in a thread of its own, for a port whose calls block and a library that is asynchronous."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class LoopThread:
    """An event loop in a daemon thread."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._started: list[Future[None]] = []
        """The loop itself refers to its tasks only weakly."""
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    @property
    def is_closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._loop.is_closed()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run on the loop and return the result. Called from other threads."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Run on the loop until it ends."""
        self._started.append(asyncio.run_coroutine_threadsafe(work, self._loop))

    def close(self, *last: Callable[[], None]) -> None:
        """Call these on the loop, cancel all that runs there, and end it."""
        if self.is_closed:
            return
        self.run(self._ended(last))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _ended(self, last: Iterable[Callable[[], None]]) -> None:
        for one in last:
            one()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
