"""Failed attempts: which count against an event, what is recorded of them, and whether another follows."""

import asyncio
from collections.abc import Sequence
from typing import Literal

from unlost.listener.core.clocks import Clocks
from unlost.listener.core.errors import Permanent, Transient, failure_of
from unlost.listener.core.facts import Facts, failed_attempt
from unlost.listener.core.in_flight import InFlight
from unlost.listener.pipeline.store_watch import StoreWatch


class Failures:
    """The failures of one stage. An event may have ``attempts`` of them, ``delay`` seconds apart."""

    def __init__(
        self,
        stage: Literal["handle", "store"],
        *,
        watch: StoreWatch,
        attempts: int,
        delay: float,
        clocks: Clocks,
        facts: Facts,
    ) -> None:
        self._stage = stage
        self._watch = watch
        self._attempts = attempts
        self._delay = delay
        self._clocks = clocks
        self._facts = facts

    async def following(self, flight: InFlight, number: int, error: Transient | Permanent, began: float) -> int | None:
        """Return the next attempt's number, after a pause if the failure counts; None if it was the last attempt."""
        if not await self.count([flight], error, began):
            return number
        last = isinstance(error, Permanent) or number >= self._attempts
        self.keep(flight, error, retried=not last)
        if last:
            return None
        await asyncio.sleep(self._delay)
        return number + 1

    async def count(self, flights: Sequence[InFlight], error: Transient | Permanent, began: float) -> bool:
        """Return whether it counts. If not, an outage has ended, and the attempt is repeated."""
        if await self._watch.counts(error, began):
            return True
        self.report(flights, error, retried=True)
        return False

    def keep(self, flight: InFlight, error: Transient | Permanent, *, retried: bool) -> None:
        """Record the failure with its event."""
        flight.attempts.append(failure_of(error, stage=self._stage, at=self._clocks.now()))
        self.report([flight], error, retried=retried)

    def report(self, flights: Sequence[InFlight], error: Transient | Permanent, *, retried: bool) -> None:
        """State that these events shared a failed attempt."""
        failure = failure_of(error, stage=self._stage, at=self._clocks.now())
        event_id = flights[0].event.event_id if len(flights) == 1 else None
        self._facts(failed_attempt(failure, retried=retried, count=len(flights), event_id=event_id))
