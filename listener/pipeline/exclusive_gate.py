"""The exclusive gate: fresh events run together; suspects run while none of them does."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from unlost.listener.core.in_flight import InFlight
from unlost.listener.pipeline.route_queues import Attempt


class ExclusiveGate:
    """Keeps fresh events out while suspects run or wait for running events to end. Calls ``opened`` afterwards."""

    def __init__(self, opened: Callable[[], None]) -> None:
        self._opened = opened
        self._changed = asyncio.Event()
        self._fresh = 0
        self._suspects = 0
        self._alone = False
        self._running: set[InFlight] = set()
        """Suspects that run, or are not settled yet."""
        self._settled = asyncio.Event()

    @property
    def closed(self) -> bool:
        """Whether fresh events must wait."""
        # Also while suspects only wait: otherwise fresh events could keep them waiting for ever.
        return self._suspects > 0

    def enter(self, attempt: Attempt) -> None:
        """Count a fresh event that starts."""
        if attempt.entry == "fresh":
            self._fresh += 1

    def leave(self, attempt: Attempt) -> None:
        """Let others run that wait for this event to end or to pause."""
        if attempt.entry == "suspect":
            self.leave_suspect(attempt.flight)
        else:
            self._fresh -= 1
            self._changed.set()

    def enter_suspect(self, flight: InFlight) -> None:
        """Count a suspect from now on, also while it waits for a worker."""
        self._running.add(flight)

    def leave_suspect(self, flight: InFlight) -> None:
        """Count a suspect no longer: it is settled, or it pauses."""
        self._running.discard(flight)
        self._settled.set()

    async def idle_of_suspects(self) -> None:
        """Return once no suspect runs, including those whose worker has not started yet."""
        while self._running:
            self._settled.clear()
            await self._settled.wait()

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
