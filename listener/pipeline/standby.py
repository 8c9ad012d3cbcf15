"""Standby: events that another owner holds. They stay in memory, and are claimed again after a while."""

import asyncio
import contextlib
import heapq
import itertools
from collections import defaultdict
from collections.abc import Sequence

from unlost.listener.claims.manager import ClaimManager
from unlost.listener.core.batch_queue import BatchQueue
from unlost.listener.core.clocks import Clocks
from unlost.listener.core.in_flight import InFlight
from unlost.listener.pipeline.policy import Policy


class Standby:
    """Puts each event back into the queue of ``Claiming`` after its wait."""

    def __init__(self, *, queue: BatchQueue[InFlight], manager: ClaimManager, policy: Policy, clocks: Clocks) -> None:
        self._queue = queue
        self._manager = manager
        self._policy = policy
        self._clocks = clocks
        self._waiting: list[tuple[float, int, list[InFlight]]] = []
        self._order = itertools.count()
        self._due = asyncio.Event()
        self.count = 0
        """How many events wait here."""

    def put(self, held: Sequence[tuple[InFlight, float]]) -> None:
        """Claim these again later. Each comes with the seconds for which another listener holds it.

        Events with the same delay wait together.
        """
        now = self._clocks.monotonic()
        together: defaultdict[float, list[InFlight]] = defaultdict(list)
        for flight, seconds_left in held:
            flight.requests += 1
            together[self._policy.stand_by_delay(flight.requests, seconds_left)].append(flight)
        for delay, flights in together.items():
            heapq.heappush(self._waiting, (now + delay, next(self._order), flights))
        self.count += len(held)
        self._due.set()

    def ran_out(self, flight: InFlight) -> None:
        """Claim an event again whose lease ran out by our own clock.

        If the claim stayed held, it could be renewed, and a suspect that waits for its end would not start.
        """
        self._manager.leases.drop([flight.claim_id])
        self.put([(flight, 0.0)])

    async def run(self) -> None:
        """Put them back at their times, until cancelled."""
        while True:
            now = self._clocks.monotonic()
            woken: list[InFlight] = []
            while self._waiting and self._waiting[0][0] <= now:
                woken += heapq.heappop(self._waiting)[2]
            self.count -= len(woken)
            self._queue.put_all(woken)
            self._due.clear()
            pause = max(0.02, self._waiting[0][0] - now) if self._waiting else None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._due.wait()
