"""The events that wait for a worker, one queue for each route. No input or output.

A plain function has one queue. Routes take turns, so a route with many events does not delay those of others. Each has
its own limit of concurrent attempts.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

from unlost.listener.core.attempts import AttemptPolicy, Backoff
from unlost.listener.core.event import Event
from unlost.listener.core.in_flight import InFlight
from unlost.listener.pipeline.handlers import Handler
from unlost.listener.pipeline.policy import Policy
from unlost.listener.pipeline.route_breaker import RouteBreaker

RandomFraction = Callable[[], float]
IN_LINE = 4
"""Attempts of a quick function that wait in line for a thread, for each thread that it may have."""
HELD_FOR_EACH = 4
"""Claims that a route with a limit of its own may hold for each attempt that may run at once."""
ANY_NUMBER = 1 << 30
Entry = Literal["fresh", "inside", "suspect"]
"""``fresh``: waits while suspects run. ``inside``: ends before suspects may run. ``suspect``: runs with suspects."""


class Attempt(NamedTuple):
    """An attempt to be made, and the queue in which it waits. ``number`` counts from 1."""

    flight: InFlight
    queue: "RouteQueue"
    number: int
    entry: Entry

    @property
    def has_begun(self) -> bool:
        """Whether the handler has run for this event before."""
        return self.number > 1 or self.entry == "inside"

    @property
    def is_given_back(self) -> bool:
        """Whether its claim is released, since its route pauses. A letter's event stays: no peer has it."""
        return self.queue.breaker.is_open and self.entry != "suspect" and not self.flight.revive


class RouteQueue:
    """One route: its limits, what waits, and how many attempts run. ``at_once``: how many may.

    ``parked``: events of this route that are not claimed, because enough of it is held already.
    """

    __slots__ = (
        "_clock", "_fresh", "_line", "_others", "at_once", "breaker", "held", "is_limited", "name", "parked", "probe",
        "prober", "retry", "running", "timeout",
    )  # fmt: skip

    def __init__(
        self, policy: AttemptPolicy, settings: Policy, clock: Callable[[], float], rng: RandomFraction
    ) -> None:
        self.name = policy.route
        self.retry = policy.retry or Backoff.fixed(settings.handle_attempts, settings.handle_delay)
        self.timeout = min(policy.timeout or settings.handle_timeout, settings.handle_timeout)
        self.at_once = min(policy.concurrency or settings.handle_concurrency, settings.handle_concurrency)
        self.is_limited = self.at_once < settings.handle_concurrency
        self._line = None if self.is_limited else policy.line
        if policy.line is not None:
            policy.line.limit(self.at_once)
        self.running = 0
        self.breaker = RouteBreaker(self.retry, rng)
        self.parked: OrderedDict[str, InFlight] = OrderedDict()
        self.held = ""
        """Why a person paused it."""
        self.probe = ""
        """The parked event that is tried although the route pauses."""
        self.prober: asyncio.Task[None] | None = None
        """The task that tries single events while the route pauses."""
        self._clock = clock
        self._fresh: OrderedDict[str, Attempt] = OrderedDict()
        self._others: OrderedDict[str, Attempt] = OrderedDict()

    def __len__(self) -> int:
        return len(self._fresh) + len(self._others)

    @property
    def room(self) -> int:
        """How many more events may be claimed: none while the route pauses, and few if its limit is low."""
        if self.pauses:
            return 0
        return max(0, HELD_FOR_EACH * self.at_once - len(self) - self.running) if self.is_limited else ANY_NUMBER

    @property
    def may_start(self) -> bool:
        """Whether another attempt may start now."""
        return self._may_start(self.running)

    def _may_start(self, running: int) -> bool:
        most = self.at_once * IN_LINE if self.is_in_line and self.breaker.is_calm else self.at_once
        return not self.held and running < self.breaker.at_once(most, self._clock)

    @property
    def is_in_line(self) -> bool:
        """Whether its attempts take no time but that in which they wait for a thread. The thread runs one at a time."""
        return self._line is not None and self._line.is_quick

    @property
    def has_events(self) -> bool:
        """Whether any event of this route runs or waits here."""
        return bool(self.running or self.parked or self._others or self._fresh)

    @property
    def pauses(self) -> bool:
        """Whether its events wait: nearly all fail, or a person paused it."""
        return self.breaker.is_open or bool(self.held)

    def put(self, attempt: Attempt, *, first: bool = False) -> None:
        """Add an attempt, before all fresh ones if ``first``."""
        waiting = self._fresh if attempt.entry == "fresh" else self._others
        waiting[attempt.flight.claim_id] = attempt
        if first:
            waiting.move_to_end(attempt.flight.claim_id, last=False)

    def next(self, *, fresh: bool, ending: bool = False) -> Attempt | None:
        """Return the attempt that may start next; a fresh event only if ``fresh``.

        ``ending``: which one it is once an attempt that runs here has ended.
        """
        if not self._may_start(self.running - ending):
            return None
        if self._others:
            return next(iter(self._others.values()))
        if not fresh or not self._fresh:
            return None
        # Older events have failed. The newest was tried least, and may differ from them.
        return next((reversed if self.breaker.is_open else iter)(self._fresh.values()))

    def stand_aside(self) -> list[Attempt]:
        """Take out events that have entered the gate. While the route pauses they must not keep others waiting."""
        others = list(self._others.values())
        self._others.clear()
        return others

    def unpark_probe(self) -> list[InFlight]:
        """Take out the newest parked event, if the route pauses and one may be tried now."""
        if not self.breaker.is_open or not self.may_start:
            return []
        flight = self.parked.popitem()[1]
        self.probe = flight.claim_id
        return [flight]

    def pop(self, claim_id: str) -> Attempt | None:
        """Take one out."""
        return self._others.pop(claim_id, None) or self._fresh.pop(claim_id, None)

    def all(self) -> list[Attempt]:
        """Return everything that waits."""
        return [*self._others.values(), *self._fresh.values()]


class RouteQueues:
    """All queues, taking turns."""

    def __init__(self, handler: Handler, settings: Policy, clock: Callable[[], float], rng: RandomFraction) -> None:
        self._handler = handler
        self._settings = settings
        self._clock = clock
        self._rng = rng
        self._queues: dict[str, RouteQueue] = {}
        self._turn: OrderedDict[str, RouteQueue] = OrderedDict()
        """Queues in which something waits, in their order."""
        self._count = 0
        self._held: Mapping[str, str] = {}
        self.have_lines = handler.line is not None
        """Whether a queue may have attempts that wait in line."""
        self._only = RouteQueue(AttemptPolicy(handler.name, line=handler.line), settings, clock, rng)
        for policy in handler.policies:
            self._queue_of(policy)
        if not handler.policies:
            self._queues[handler.name] = self._only

    def __len__(self) -> int:
        return self._count

    def of(self, event: Event) -> RouteQueue:
        """Return the queue of this event's route."""
        return self._queue_of(self._handler.policy_of(event)) if self._handler.policies else self._only

    def _queue_of(self, policy: AttemptPolicy) -> RouteQueue:
        queue = self._queues.get(policy.route)
        if queue is None:
            queue = self._queues[policy.route] = RouteQueue(policy, self._settings, self._clock, self._rng)
            queue.held = self._held.get(policy.route, "")
            self.have_lines = self.have_lines or policy.line is not None
        return queue

    def put(self, attempt: Attempt, *, first: bool = False) -> None:
        """Add an attempt to its queue."""
        attempt.queue.put(attempt, first=first)
        self._turn[attempt.queue.name] = attempt.queue
        self._count += 1

    def next(self, *, fresh: bool, ending: RouteQueue | None = None) -> Attempt | None:
        """Return the attempt that may start next. It stays until it is popped. ``ending``: see ``RouteQueue``."""
        for queue in self._turn.values():
            if (attempt := queue.next(fresh=fresh, ending=queue is ending)) is not None:
                return attempt
        return None

    def others_wait(self, queue: RouteQueue) -> bool:
        """Whether something waits in another queue."""
        return len(self._turn) > (queue.name in self._turn)

    def take(self, attempt: Attempt) -> None:
        """Take out the attempt that starts now. Another queue has the next turn."""
        queue = attempt.queue
        queue.pop(attempt.flight.claim_id)
        self._gone_from(queue)
        if queue and len(self._turn) > 1:
            self._turn.move_to_end(queue.name)

    def pop(self, claim_id: str) -> Attempt | None:
        """Take out an event that does not start."""
        for queue in self._turn.values():
            if (attempt := queue.pop(claim_id)) is not None:
                self._gone_from(queue)
                return attempt
        return None

    def _gone_from(self, queue: RouteQueue, count: int = 1) -> None:
        self._count -= count
        if not queue:
            self._turn.pop(queue.name, None)

    def hold(self, routes: Mapping[str, str]) -> list[RouteQueue]:
        """Hold these routes and no others; return those that this changed."""
        self._held = routes
        changed = [queue for queue in self._queues.values() if bool(queue.held) != (queue.name in routes)]
        for queue in self._queues.values():
            queue.held = routes.get(queue.name, "")
        return changed

    def stand_aside(self, queue: RouteQueue) -> list[Attempt]:
        """See ``RouteQueue``."""
        others = queue.stand_aside()
        self._gone_from(queue, len(others))
        return others

    def give_back(self, queue: RouteQueue) -> list[Attempt]:
        """Take out the attempts whose claims are released."""
        given_back = [one for one in queue.all() if one.is_given_back]
        return [one for one in given_back if self.pop(one.flight.claim_id)]

    def admit(self, flights: Sequence[InFlight]) -> Sequence[InFlight]:
        """Return those that may be claimed now; park the others in their queues."""
        if not self._handler.policies and not self._only.pauses:
            return flights
        rooms: dict[str, int] = {}
        admitted, parked = [], dict[str, RouteQueue]()
        for flight in flights:
            queue = self.of(flight.event)
            rooms[queue.name] = room = rooms.get(queue.name, queue.room) - 1
            if room >= 0 or flight.claim_id == queue.probe or flight.cause is not None or flight.handled:
                admitted.append(flight)
            else:
                queue.parked[flight.claim_id] = flight
                parked[queue.name] = queue
        for queue in parked.values():
            # A moment later peers whose routes flow have it, and no success ends the pause here.
            admitted += queue.unpark_probe()
        return admitted

    @property
    def held_back(self) -> int:
        """How many claimed events wait in routes that pause."""
        return sum(len(queue) for queue in self._queues.values() if queue.pauses)

    def of_paused_routes(self) -> list[InFlight]:
        """Return the events that wait for routes that pause, whether claimed or parked."""
        paused = [queue for queue in self._queues.values() if queue.pauses]
        return [flight for queue in paused for flight in (*(one.flight for one in queue.all()), *queue.parked.values())]

    @property
    def waiting(self) -> dict[str, int]:
        """For each route, how many events are parked, or are held while it pauses."""
        return {queue.name: len(queue.parked) + (len(queue) if queue.pauses else 0) for queue in self._queues.values()}

    @property
    def paused(self) -> dict[str, str]:
        """The routes whose events wait because they pause, each with the error of its attempts."""
        pausing = [queue for queue in self._queues.values() if queue.breaker.is_open and queue.has_events]
        return {queue.name: queue.breaker.why for queue in pausing}

    def all(self) -> list[Attempt]:
        """Return everything that waits."""
        return [attempt for queue in self._turn.values() for attempt in queue.all()]
