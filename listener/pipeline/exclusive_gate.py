"""The exclusive gate: fresh events run together; suspects run while none of them does."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable


class ExclusiveGate:
    """Keeps fresh events out while suspects run or wait for running events to end. Calls ``opened`` afterwards."""

    def __init__(self, opened: Callable[[], None]) -> None:
        self._opened = opened
        self._changed = asyncio.Event()
        self._fresh = 0
        self._suspects = 0
        self._alone = False

    @property
    def closed(self) -> bool:
        """Whether fresh events must wait."""
        return self._suspects > 0

    def enter(self) -> None:
        """Count a fresh event that starts."""
        self._fresh += 1

    def leave(self) -> None:
        """Count a fresh event that has ended."""
        self._fresh -= 1
        self._changed.set()

    @contextlib.asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """A context in which suspects run and nothing else."""
        self._suspects += 1
        try:
            while self._alone or self._fresh:
                self._changed.clear()
                await self._changed.wait()
            self._alone = True
            try:
                yield
            finally:
                self._alone = False
        finally:
            self._suspects -= 1
            self._changed.set()
            if not self.closed:
                self._opened()
