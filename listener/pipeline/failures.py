"""Failed attempts: which count against an event, what is recorded of them, and whether another follows."""

import random
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from unlost.listener.core.attempts import Backoff
from unlost.listener.core.clocks import Clocks
from unlost.listener.core.errors import Permanent, Transient, Unrepeatable, failure_of
from unlost.listener.core.facts import Facts, failed_attempt
from unlost.listener.core.in_flight import InFlight
from unlost.listener.pipeline.store_watch import StoreWatch


class NextAttempt(NamedTuple):
    """Another attempt follows, after a pause. A pause of None: at once, because the failed attempt does not count."""

    number: int
    pause: float | None


class Failures:
    """The failures of one stage."""

    def __init__(
        self,
        stage: Literal["handle", "store"],
        *,
        watch: StoreWatch,
        clocks: Clocks,
        facts: Facts,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self._stage = stage
        self._watch = watch
        self._clocks = clocks
        self._facts = facts
        self._rng = rng

    async def again(
        self,
        flight: InFlight,
        number: int,
        error: Transient | Permanent,
        began: float,
        backoff: Backoff,
        *,
        counts: Callable[[], bool] = lambda: True,
    ) -> NextAttempt | None:
        """Return the attempt that follows; None if this was the last.

        ``counts`` is asked whether it counts against the event, if PostgreSQL was not away.
        """
        if isinstance(error, Unrepeatable):
            self.keep(flight, error, retried=False)
            return None
        if not await self.count([flight], error, began):
            return NextAttempt(number, None)
        if not counts():
            self.report([flight], error, retried=True)
            return NextAttempt(number, None)
        pause = None if flight.once else backoff.again_after(number, error, self._rng())
        self.keep(flight, error, retried=pause is not None)
        return None if pause is None else NextAttempt(number + 1, pause)

    async def count(self, flights: Sequence[InFlight], error: Transient | Permanent, began: float) -> bool:
        """Return whether the failure counts. If not, an outage has ended, and the attempt is repeated."""
        if await self._watch.counts(error, began):
            return True
        self.report(flights, error, retried=True)
        return False

    def keep(self, flight: InFlight, error: Transient | Permanent, *, retried: bool) -> None:
        """Record the failure with its event."""
        failure = failure_of(error, stage=self._stage, at=self._clocks.now())
        flight.attempts.append(failure)
        self._facts(failed_attempt(failure, retried=retried, count=1, event_id=flight.event.event_id))

    def report(self, flights: Sequence[InFlight], error: Transient | Permanent, *, retried: bool) -> None:
        """State that these events shared a failed attempt."""
        failure = failure_of(error, stage=self._stage, at=self._clocks.now())
        event_id = flights[0].event.event_id if len(flights) == 1 else None
        self._facts(failed_attempt(failure, retried=retried, count=len(flights), event_id=event_id))
