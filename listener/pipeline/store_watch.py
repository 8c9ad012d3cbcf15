"""Decides whether an event or the store failed. A failure counts against the event only while the store accepts rows.

After each failure a probe takes the locks of an insert and commits like one. If the probe fails, this is an outage:
nothing is counted, and all rows wait as long as it lasts. They are retried once a probe has succeeded. One task sends
the probes for all that wait.
"""

import asyncio
import contextlib
import random
from collections.abc import Callable

from unlost.listener.core.backoff import FullJitter
from unlost.listener.core.breaker import Breaker
from unlost.listener.core.clocks import Clocks
from unlost.listener.core.errors import NotPermitted, Permanent, Transient, Unavailable
from unlost.listener.core.facts import Facts, StoringPaused, StoringResumed
from unlost.listener.ports.rows import Rows

PAUSES = FullJitter(first=0.2, longest=3.0)
"""The pauses between two probes. A breaker that closes ends a pause: another call to PostgreSQL has succeeded."""
AGAIN_SECONDS = 6.0
"""An outage that follows another so soon is the same: the pauses go on growing."""
SPACING_SECONDS = 0.02
"""The shortest time between the beginnings of two probes. A probe commits, so it costs as much as many rows."""
UNAVAILABLE_SECONDS = 1.0
"""The pause before a retry if the server lacked something for the row (room, memory) but accepted the probe."""


class StoreWatch:
    """Asked after each failure. ``run`` must be running."""

    def __init__(
        self,
        *,
        store: Rows,
        breaker: Breaker,
        clocks: Clocks,
        facts: Facts,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self._store = store
        self._breaker = breaker
        self._clocks = clocks
        self._facts = facts
        self._rng = rng
        self._waiting: list[asyncio.Future[bool]] = []
        self._requested = asyncio.Event()
        self._taking = asyncio.Event()
        self._taking.set()
        self._recovered_at = self._probed_at = float("-inf")
        self._refused = ""
        self._failures = 0
        self.error = ""
        """Why no rows can be stored; empty if they can."""

    async def counts(self, error: Transient | Permanent, began: float) -> bool:
        """Return whether a failed attempt that began at ``began`` counts against its event.

        It does not if the store accepted no rows meanwhile. Then this returns once the store accepts rows again.
        """
        if began <= self._recovered_at:  # it began before or during an outage that has ended by now
            return False
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append(answer)
        if isinstance(error, NotPermitted):
            self._refused = str(error)
        self._requested.set()
        counts = await answer
        if counts and isinstance(error, Unavailable):
            await asyncio.sleep(UNAVAILABLE_SECONDS * (0.5 + 0.5 * self._rng()))
            return False
        return counts

    async def until_taking(self) -> None:
        """Return once rows can be stored, as far as is known."""
        await self._taking.wait()

    async def run(self) -> None:
        """Send probes on request, until cancelled."""
        while True:
            await self._requested.wait()
            await asyncio.sleep(max(0.0, self._probed_at + SPACING_SECONDS - self._clocks.monotonic()))
            self._requested.clear()
            waiting = self._take_waiting()
            if not waiting:
                continue
            # A probe inserts no row and runs no handler, so it may not need the right that is missing.
            takes_rows = not (why := await self._probe() or self._refused)
            if not takes_rows:
                await self._outlast(why)
                waiting += self._take_waiting()  # failures during the outage do not count either
            for answer in waiting:
                if not answer.done():
                    answer.set_result(takes_rows)

    def _take_waiting(self) -> list[asyncio.Future[bool]]:
        waiting, self._waiting = self._waiting, []
        return waiting

    async def _outlast(self, why: str) -> None:
        started = self._clocks.monotonic()
        if started > self._recovered_at + AGAIN_SECONDS:
            self._failures = 0
        self._taking.clear()
        self._facts(StoringPaused(why))
        while why:
            self.error = f"PostgreSQL takes no rows: {why}"
            self._failures += 1
            await self._pause(PAUSES.delay(self._failures, self._rng()))
            why = await self._probe()
        self.error = self._refused = ""
        self._recovered_at = self._clocks.monotonic()
        self._taking.set()
        self._facts(StoringResumed(self._recovered_at - started))

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                if self._breaker.is_open:
                    await self._breaker.wait_closed()
                else:
                    await asyncio.sleep(seconds)

    async def _probe(self) -> str:
        """Return why the store accepts no rows, or an empty text."""
        self._probed_at = self._clocks.monotonic()
        try:
            await self._store.probe()
        except (Permanent, NotPermitted) as error:  # the server answers, but a table or a right is missing
            return str(error)
        except Transient as error:
            self._breaker.failed(self._clocks.monotonic(), str(error))
            return str(error)
        self._breaker.succeeded()
        return ""
