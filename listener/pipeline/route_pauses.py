"""Routes that pause: nearly every attempt fails alike, or a person paused them. Meanwhile no attempt is counted.

``RouteBreaker`` decides; this carries it out. Waiting events step aside, one at a time is tried, and the first success
lets all others go on.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence

from unlost.listener.claims.manager import ClaimManager
from unlost.listener.core.clocks import Clocks
from unlost.listener.core.errors import Permanent, Retry, Transient
from unlost.listener.core.facts import Facts, RoutePaused, RouteResumed
from unlost.listener.core.in_flight import InFlight
from unlost.listener.pipeline.aside import Aside
from unlost.listener.pipeline.event_tasks import EventTasks
from unlost.listener.pipeline.policy import Policy
from unlost.listener.pipeline.route_queues import Attempt, RouteQueue, RouteQueues
from unlost.listener.pipeline.workers import Workers

PROBE_SECONDS = 0.1
MOST_WORDS = 300
"""The length of an error in the reason of a paused route, in characters."""


class RoutePauses:
    """Pauses routes and lets them go on. ``claim_again`` gets the events that wait unclaimed for their route."""

    def __init__(
        self,
        *,
        queues: RouteQueues,
        workers: Workers,
        aside: Aside,
        tasks: EventTasks,
        claim_again: Callable[[Sequence[InFlight]], None],
        manager: ClaimManager,
        policy: Policy,
        clocks: Clocks,
        facts: Facts,
    ) -> None:
        self._queues = queues
        self._workers = workers
        self._aside = aside
        self._tasks = tasks
        self._claim_again = claim_again
        self._leases = manager.leases
        self._policy = policy
        self._clocks = clocks
        self._facts = facts

    def hold(self, routes: Mapping[str, str]) -> None:
        """See ``Work``."""
        for queue in self._queues.hold(routes):
            queue.probe = ""
            for attempt in self._queues.stand_aside(queue) if queue.held else ():
                self._aside.stand_aside(attempt)
            self.unpark(queue, queue.room)
        self._leases.look_again()
        self._workers.start_all()

    def counts(self, attempt: Attempt, error: Transient | Permanent, began: float) -> bool:
        """Return whether a failure counts against its event. It does not if the whole route fails in this way."""
        breaker = attempt.queue.breaker
        if isinstance(error, Permanent | Retry) or not self._policy.breakers:
            return True  # the handler decided this about the event
        once = attempt.flight.once
        if once and not breaker.is_open:
            return True  # a letter that is retried: it failed before, and its group has pauses of its own
        paused, kind = breaker.is_open, getattr(error, "error_type", type(error).__name__)
        counts = breaker.failed(
            attempt.flight.claim_id, f"{kind} {error.sqlstate}", f"{kind}: {error}"[:MOST_WORDS],
            first=attempt.number == 1, began=began, now=self._clocks.monotonic(),
        )  # fmt: skip
        if breaker.is_open and not paused:
            self._pause(attempt.queue)
        return counts or once  # as a probe it ends with one attempt, so that other events are tried next

    def _pause(self, queue: RouteQueue) -> None:
        queue.probe = ""
        self._facts(RoutePaused(queue.name, queue.breaker.why))
        for attempt in self._queues.stand_aside(queue):
            self._aside.stand_aside(attempt)
        self._aside.give_back(self._queues.give_back(queue))
        queue.prober = self._tasks.start(self._probe(queue), f"probe {queue.name[:64]}")

    async def _probe(self, queue: RouteQueue) -> None:
        """Let one event be tried at a time, the newest first, until one succeeds."""
        breaker = queue.breaker
        while breaker.is_open:
            await asyncio.sleep(max(0.0, breaker.probe_at - self._clocks.monotonic()))
            if self._clocks.monotonic() >= breaker.probe_at and not queue.running and not queue.held:
                if len(self._aside) < self._policy.most_retries:
                    self.unpark(queue, 1)
                self._workers.start()
            await asyncio.sleep(PROBE_SECONDS)

    def succeeded(self, queue: RouteQueue) -> None:
        """Take note of an attempt that succeeded: a route that pauses goes on."""
        if queue.breaker.is_calm:
            return
        now = self._clocks.monotonic()
        if queue.breaker.succeeded(now):
            self._facts(RouteResumed(queue.name, now - queue.breaker.opened_at))
            if queue.prober is not None:
                queue.prober.cancel()  # if the route pauses again at once, that pause has its own
            queue.probe = ""
            self.unpark(queue, queue.room)
        self._workers.start_all()

    def unpark(self, queue: RouteQueue, count: int) -> None:
        """Let ``count`` parked events be claimed, the newest first."""
        flights = [queue.parked.popitem()[1] for _ in range(min(count, len(queue.parked)))]
        if flights:
            queue.probe = flights[0].claim_id if queue.breaker.is_open else ""
            self._claim_again(flights)
