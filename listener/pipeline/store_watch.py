"""Whether a failure is the event's own, or the store's. A failure counts against an event only if the store takes rows.

After each failure a probe is sent that takes the locks of an insert and commits as one does. If it fails, this is an
outage: nothing is counted, all rows wait, for as long as it takes, and are tried again once a probe has succeeded. One
task sends the probes, for all who wait.
"""

import asyncio
import contextlib
import random
from collections.abc import Callable

from unlost.listener.core.backoff import Backoff
from unlost.listener.core.breaker import Breaker
from unlost.listener.core.clocks import Clocks
from unlost.listener.core.errors import Permanent, Transient, Unavailable
from unlost.listener.core.facts import Facts, StoringPaused, StoringResumed
from unlost.listener.ports.rows import Rows

PAUSES = Backoff(first=0.2, longest=3.0)
"""Between two probes. A breaker that closes ends the pause: other calls to PostgreSQL have succeeded."""
UNAVAILABLE_SECONDS = 1.0
"""Before another attempt where the server refused the row for want of something (room, memory), yet took the probe."""


class StoreWatch:
    """Asked after each failure; ``run`` must be running."""

    def __init__(
        self,
        *,
        store: Rows,
        breaker: Breaker,
        clocks: Clocks,
        facts: Facts,
        dice: Callable[[], float] = random.random,
    ) -> None:
        self._store = store
        self._breaker = breaker
        self._clocks = clocks
        self._facts = facts
        self._dice = dice
        self._waiting: list[asyncio.Future[bool]] = []
        self._asked = asyncio.Event()
        self._taking = asyncio.Event()
        self._taking.set()
        self._recovered_at = float("-inf")
        self.trouble = ""
        """Why no rows can be stored, for as long as that is so."""

    async def counts(self, error: Transient | Permanent, began: float) -> bool:
        """Whether an attempt that began at ``began`` and failed counts against its event.

        If the store took no rows meanwhile, it does not, and this returns once the store takes rows again.
        """
        if began <= self._recovered_at:
            return False
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append(answer)
        self._asked.set()
        counts = await answer
        if counts and isinstance(error, Unavailable):
            await asyncio.sleep(UNAVAILABLE_SECONDS * (0.5 + 0.5 * self._dice()))
            return False
        return counts

    async def until_taking(self) -> None:
        """Return once rows can be stored, as far as is known."""
        await self._taking.wait()

    async def run(self) -> None:
        """Send probes when asked, until cancelled."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            waiting = self._take_waiting()
            if not waiting:
                continue
            takes_rows = not (why := await self._probe())
            if not takes_rows:
                await self._outlast(why)
                waiting += self._take_waiting()  # what failed during the outage does not count either
            for answer in waiting:
                if not answer.done():
                    answer.set_result(takes_rows)

    def _take_waiting(self) -> list[asyncio.Future[bool]]:
        waiting, self._waiting = self._waiting, []
        return waiting

    async def _outlast(self, why: str) -> None:
        started, failures = self._clocks.monotonic(), 0
        self._taking.clear()
        self._facts(StoringPaused(why))
        while why:
            self.trouble = f"PostgreSQL takes no rows: {why}"
            failures += 1
            await self._pause(PAUSES.delay(failures, self._dice()))
            why = await self._probe()
        self.trouble = ""
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
        """Why the store takes no rows, or an empty text."""
        try:
            await self._store.probe()
        except Permanent as error:  # the server answers, but no row could be stored: the table or a right is missing
            return str(error)
        except Transient as error:
            self._breaker.failed(self._clocks.monotonic(), str(error))
            return str(error)
        self._breaker.succeeded()
        return ""
