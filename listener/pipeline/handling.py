"""Handling: runs the user's code within limits of time, attempts and number, for both forms of handler."""

import asyncio
import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence

from unlost.listener.claims.manager import ClaimManager
from unlost.listener.core.attempts import must_fit
from unlost.listener.core.cause import DeadLetterCause, Reason
from unlost.listener.core.clocks import Clocks
from unlost.listener.core.errors import InvalidPayload, Permanent, Reject, Retry, Transient
from unlost.listener.core.facts import Facts, RoutePaused, RouteResumed
from unlost.listener.core.in_flight import InFlight, Paused
from unlost.listener.pipeline.attempt_runner import AttemptRunner, ClaimLost
from unlost.listener.pipeline.effect_recorder import EffectRecorder
from unlost.listener.pipeline.event_tasks import EventTasks, this_task
from unlost.listener.pipeline.exclusive_gate import ExclusiveGate
from unlost.listener.pipeline.failures import Failures
from unlost.listener.pipeline.handlers import Handler
from unlost.listener.pipeline.lanes import Attempt, Entry, Lane, Lanes
from unlost.listener.pipeline.policy import Policy
from unlost.listener.pipeline.retries import Retries
from unlost.listener.pipeline.settling import Settling
from unlost.listener.pipeline.standby import Standby
from unlost.listener.pipeline.store_watch import StoreWatch
from unlost.listener.pipeline.storing import Storing
from unlost.listener.pipeline.suspects import Suspect, Suspects
from unlost.listener.pipeline.work import WaitingEvent
from unlost.listener.ports.rows import Rows, TransactionPipeline

HOLD_BACK_SECONDS = 1.0
"""The pause before a suspect of a paused route is tried again."""
PROBE_SECONDS = 0.1
MOST_WORDS = 300
"""The length of an error in the reason of a paused route, in characters."""


class Handling:
    """Runs a handler of either form.

    Up to ``handle_concurrency`` workers take waiting events, one after another, and end when none waits: starting a
    worker costs more than many events. Events that pause between two attempts have no worker. Tasks of their own have
    only the end of a failed attempt, the end of the last one, and the wait until a suspect is settled.
    """

    handled = True
    in_runs = False

    def __init__(
        self,
        *,
        handler: Handler,
        manager: ClaimManager,
        store: Rows,
        storing: Storing,
        watch: StoreWatch,
        settling: Settling,
        standby: Standby,
        suspects: Suspects,
        effects: EffectRecorder,
        claim_again: Callable[[Sequence[InFlight]], None],
        policy: Policy,
        clocks: Clocks,
        facts: Facts,
        rng: Callable[[], float] = random.random,
    ) -> None:
        must_fit(handler.policies, timeout=policy.handle_timeout, concurrency=policy.handle_concurrency)
        self._handler = handler
        self._manager = manager
        self._storing = storing
        self._failures = Failures("handle", watch=watch, clocks=clocks, facts=facts, rng=rng)
        self._settling = settling
        self._standby = standby
        self._suspects = suspects
        self._claim_again = claim_again
        self._policy = policy
        self._clocks = clocks
        self._facts = facts
        self._gate = ExclusiveGate(opened=self._start_workers)
        self.alone = self._gate.alone
        self._lanes = Lanes(handler, policy, clocks.monotonic, rng)
        self.admit = self._lanes.admit
        self._retries = Retries(policy=policy, due=self._pauses_ended, clocks=clocks)
        self._workers: set[asyncio.Task[None]] = set()
        self._alone: set[InFlight] = set()
        """Suspects that run, or are not settled yet."""
        self._alone_changed = asyncio.Event()
        self._tasks = EventTasks()
        self._runner = AttemptRunner(
            handler=handler, manager=manager, store=store, storing=storing, watch=watch, clocks=clocks, facts=facts,
            tasks=self._tasks, effects=effects,
        )  # fmt: skip

    @property
    def seconds(self) -> float:
        """How long an attempt takes, on average."""
        return self._runner.seconds

    @property
    def aside(self) -> int:
        """How many held claims belong to events that pause. They have a limit of their own."""
        return len(self._retries) + self._lanes.held_back

    @property
    def pausing(self) -> Mapping[str, int]:
        """How many events of each route wait in memory for another attempt, or for the route."""
        between = self._retries.by_route()
        return {route: count + between[route] for route, count in self._lanes.waiting.items()}

    def next_retries(self, most: int) -> Sequence[WaitingEvent]:
        """See ``Work``."""
        return self._retries.next(most)

    @property
    def paused(self) -> Mapping[str, str]:
        """The routes that pause, each with the error of its attempts."""
        return self._lanes.paused

    def waiting_longer_than(self, seconds: float) -> set[str]:
        """See ``Work``."""
        pausing = [one for one in self._retries.later_than(-math.inf) if one.lane.pauses]
        pausing += [one for one in self._retries.later_than(seconds) if one.entry != "suspect"]
        return {flight.claim_id for flight in (*self._lanes.of_paused_routes(), *(one.flight for one in pausing))}

    def withdraw(self, flight: InFlight) -> None:
        """See ``Work``."""
        if self._lanes.of(flight.event).parked.pop(flight.claim_id, None) is None:
            self._take_out(flight.claim_id)

    async def run(self) -> None:
        """Handle until cancelled."""
        async with asyncio.TaskGroup() as self._tasks.group:
            self._tasks.start(self._retries.run(), "retries")
            try:
                await self._storing.run()
            finally:
                self._tasks.ending = True

    def start_all(self, flights: Sequence[InFlight]) -> None:
        """Queue the first attempts of these."""
        for flight in flights:
            if flight.handled or not self._handler.runs(flight.event.type):
                self._runner.end(flight)
            else:
                self._lanes.put(Attempt(flight, self._lanes.of(flight.event), 1, "fresh"))
                self._start_worker()

    def must_look_before(self, flight: InFlight) -> bool:
        """See ``Work``."""
        return self._handler.looks_before(flight.event.type)

    def may_be_claimed_ahead(self, flight: InFlight) -> bool:
        """Return whether its insert comes first, and finds out all that may have changed; and whether it can run soon.

        A route with a limit of its own holds few claims, and one that pauses none.
        """
        event_type = flight.event.type
        if not self._handler.runs(event_type) or self._handler.looks_before(event_type):
            return False
        lane = self._lanes.of(flight.event)
        return not lane.is_limited and not lane.pauses

    def start_suspects(self, flights: Sequence[InFlight]) -> None:
        """Start these at once. The caller passes no more than may run at once."""
        for flight in flights:
            self._alone.add(flight)
            if flight.handled or not self._handler.runs(flight.event.type):
                self._runner.end(flight)
                self._tasks.start(self._until_settled(flight), "suspect")
            else:
                attempt = Attempt(flight, self._lanes.of(flight.event), _number_of(flight), "suspect")
                if attempt.lane.pauses and not attempt.lane.may_start:
                    self._stand_aside(attempt)
                else:
                    self._lanes.put(attempt)
                    self._start_worker()

    async def idle_of_suspects(self) -> None:
        """Return once no suspect runs, including those whose worker has not started yet."""
        while self._alone:
            self._alone_changed.clear()
            await self._alone_changed.wait()

    async def stop(self, *, begun: bool, seconds: float = 0.0) -> list[str]:
        """Cancel handlers and wait until they have ended. Only then may their claims be released.

        Unless ``begun``, only events that have not begun are stopped, and those whose pause exceeds ``seconds``.
        """
        waiting = [one for one in self._lanes.all() if begun or not one.has_begun or one.lane.pauses]
        waiting += self._retries.later_than(-math.inf if begun else seconds)
        stopped = [attempt.flight.claim_id for attempt in waiting if self._take_out(attempt.flight.claim_id)]
        return stopped + await self._tasks.stop(begun=begun)

    def lose(self, flight: InFlight) -> bool:
        """Cancel the handler of an event whose claim is lost."""
        return self._take_out(flight.claim_id) or self._tasks.cancel(flight.claim_id)

    # -- workers --------------------------------------------------------------------------------

    def _start_workers(self) -> None:
        """Start workers for all events that waited while the gate was closed to fresh events."""
        for _ in range(min(len(self._lanes), self._policy.handle_concurrency)):
            self._start_worker()

    def _start_worker(self) -> None:
        if not self._tasks.ending and len(self._workers) < self._policy.handle_concurrency and self._next_attempt():
            task = self._tasks.start(self._worker(), "worker")
            self._workers.add(task)
            task.add_done_callback(self._worker_ended)

    def _worker_ended(self, task: asyncio.Task[None]) -> None:
        """Replace a worker that was cancelled because the claim of its event was lost, if others wait."""
        self._workers.discard(task)
        if not task.cancelled() and task.exception():
            self._tasks.ending = True
        self._start_worker()

    async def _worker(self) -> None:
        task, lane = this_task(), None
        transactions = TransactionPipeline(lambda: self._another_waits(lane))
        try:
            while not task.cancelling() and (attempt := self._next_attempt()):  # a handler may swallow it
                lane = attempt.lane
                self._lanes.take(attempt)
                await self._take(attempt, transactions)
        finally:
            await transactions.rest()

    def _another_waits(self, ending: Lane | None) -> bool:
        """Return whether an event waits for this worker, whose attempt in this lane ends, since all others are busy."""
        return len(self._workers) == self._policy.handle_concurrency and self._next_attempt(ending) is not None

    def _next_attempt(self, ending: Lane | None = None) -> Attempt | None:
        """Return the next event to run. Events inside the gate may run; fresh ones wait while it is closed."""
        return self._lanes.next(fresh=not self._gate.closed, ending=ending)

    def _take_out(self, claim_id: str) -> bool:
        """Take out an event that waits for a worker or pauses; return whether it did."""
        self._tasks.put_back(claim_id)
        if self._retries.pop(claim_id):
            self._manager.leases.look_again()
            return True
        if (attempt := self._lanes.pop(claim_id)) is None:
            return False
        if attempt.entry != "fresh":
            self._leave(attempt)
        return True

    async def _take(self, attempt: Attempt, transactions: TransactionPipeline) -> None:
        """Run one attempt. The event stays inside the gate until the attempt has ended and been counted."""
        flight, lane = attempt.flight, attempt.lane
        claim_id = flight.claim_id  # a conflict gives the event another claim
        task = self._tasks.enter(claim_id)
        lane.running += 1
        if attempt.entry == "fresh":
            self._gate.enter()
        goes_on = False
        began = self._clocks.monotonic()
        try:
            if await self._runner.run(attempt, None if attempt.entry == "suspect" else transactions):
                self._succeeded(lane)
            if attempt.entry == "suspect":
                goes_on = True
                self._tasks.start(self._until_settled(flight), "suspect")
        except Reject as error:
            self._reject(flight, error)
        except (Transient, Permanent) as error:
            goes_on = True
            after = self._tasks.start_for(flight, self._after_failure(attempt, error, began))
            after.add_done_callback(lambda done: self._leave(attempt) if done.cancelled() else None)
        except ClaimLost:
            self._standby.ran_out(flight)
        finally:
            lane.running -= 1
            if not goes_on:
                self._leave(attempt)
            self._tasks.forget(claim_id, task)
            if lane.is_limited:
                self._unpark(lane, lane.room)
                self._start_worker()

    def _leave(self, attempt: Attempt) -> None:
        """Let others run that wait for this event to end or to pause."""
        if attempt.entry == "suspect":
            self._is_settled(attempt.flight)
        else:
            self._gate.leave()

    async def _after_failure(self, attempt: Attempt, error: Transient | Permanent, began: float) -> None:
        flight = attempt.flight
        lane = attempt.lane
        again = await self._failures.again(
            flight, attempt.number, error, began, lane.retry, counts=lambda: self._counts(attempt, error, began)
        )
        if again is not None and not again.pause and not lane.pauses:
            entry: Entry = "suspect" if attempt.entry == "suspect" else "inside"
            self._lanes.put(attempt._replace(number=again.number, entry=entry), first=True)
            self._start_worker()
            return
        if lane.pauses and again is not None:
            await self._hold_back(attempt._replace(number=again.number))
        elif again is None:
            self._tasks.start_for(flight, self._give_up(flight, error))
        elif self._retries.has_room_for(flight):
            await self._pause(attempt, again.number, again.pause or 0.0)
        else:
            self._tasks.start_for(flight, self._storing.give_up(flight, "handle", "deferred"))
        self._leave(attempt)

    async def _pause(self, attempt: Attempt, number: int, seconds: float) -> None:
        """Let an event wait for its next attempt, without a worker and outside the gate.

        Nothing of it runs meanwhile. So if the process dies then, the event is not a reason.
        """
        entry: Entry = "suspect" if attempt.entry == "suspect" else "fresh"
        flight = attempt.flight
        if entry == "suspect":
            flight.paused = Paused(flight.epoch, number, await self._manager.leases.part(flight.claim_id))
            await asyncio.sleep(0)  # if that call found the claim lost, this task was cancelled and must not go on
        self._retries.put(attempt._replace(number=number, entry=entry), seconds)
        self._manager.leases.look_again()

    # -- routes that pause ----------------------------------------------------------------------

    def hold(self, routes: Mapping[str, str]) -> None:
        """See ``Work``."""
        for lane in self._lanes.hold(routes):
            lane.probe = ""
            for attempt in self._lanes.stand_aside(lane) if lane.held else ():
                self._stand_aside(attempt)
            self._unpark(lane, lane.room)
        self._manager.leases.look_again()
        self._start_workers()

    def _counts(self, attempt: Attempt, error: Transient | Permanent, began: float) -> bool:
        """Return whether a failure counts against its event. It does not if the whole route fails in this way."""
        breaker = attempt.lane.breaker
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
            self._pause_route(attempt.lane)
        return counts or once  # as a probe it ends with one attempt, so that other events are tried next

    def _pause_route(self, lane: Lane) -> None:
        self._facts(RoutePaused(lane.name, lane.breaker.why))
        for attempt in self._lanes.stand_aside(lane):
            self._stand_aside(attempt)
        self._manager.leases.look_again()
        lane.prober = self._tasks.start(self._probe(lane), f"probe {lane.name[:64]}")

    def _stand_aside(self, attempt: Attempt) -> None:
        """Leave the gate, so that others can run: the route of this event pauses."""
        task = self._tasks.start_for(attempt.flight, self._hold_back(attempt))
        task.add_done_callback(lambda _: self._leave(attempt))

    async def _hold_back(self, attempt: Attempt) -> None:
        """Let an event wait until its route resumes, or until it is the probe."""
        if attempt.entry == "suspect":
            await self._pause(attempt, attempt.number, HOLD_BACK_SECONDS)
        else:
            self._lanes.put(attempt._replace(entry="fresh"), first=True)
            self._manager.leases.look_again()

    async def _probe(self, lane: Lane) -> None:
        """Let one event be tried at a time, the newest first, until one succeeds."""
        breaker = lane.breaker
        while breaker.is_open:
            await asyncio.sleep(max(0.0, breaker.probe_at - self._clocks.monotonic()))
            if self._clocks.monotonic() >= breaker.probe_at and not lane.running and not lane.held:
                if self.aside < self._policy.most_retries:
                    self._unpark(lane, 1)
                self._start_worker()
            await asyncio.sleep(PROBE_SECONDS)

    def _succeeded(self, lane: Lane) -> None:
        if lane.breaker.is_calm:
            return
        now = self._clocks.monotonic()
        if lane.breaker.succeeded(now):
            self._facts(RouteResumed(lane.name, now - lane.breaker.opened_at))
            if lane.prober is not None:
                lane.prober.cancel()  # if the route pauses again at once, that pause has its own
            lane.probe = ""
            self._unpark(lane, lane.room)
        self._start_workers()

    def _unpark(self, lane: Lane, count: int) -> None:
        """Let ``count`` parked events be claimed, the newest first."""
        flights = [lane.parked.popitem()[1] for _ in range(min(count, len(lane.parked)))]
        if flights:
            lane.probe = flights[0].claim_id if lane.breaker.is_open else ""
            self._claim_again(flights)

    def _pauses_ended(self, attempts: Iterable[Attempt]) -> None:
        for attempt in attempts:
            if attempt.entry == "suspect":
                paused = attempt.flight.paused
                self._suspects.put_all([Suspect(attempt.flight, paused.company if paused else None)])
            else:
                self._lanes.put(attempt, first=True)
                self._start_worker()

    def _reject(self, flight: InFlight, error: Reject) -> None:
        self._failures.keep(flight, error, retried=False)
        self._settling.bury(flight, DeadLetterCause("rejected", "handle"))

    async def _give_up(self, flight: InFlight, error: Transient | Permanent) -> None:
        if isinstance(error, Permanent):
            reason: Reason = "invalid" if isinstance(error, InvalidPayload) else "rejected"
            self._settling.bury(flight, DeadLetterCause(reason, "handle"))
        else:
            await self._storing.give_up(flight, "handle")

    # -- suspects -----------------------------------------------------------------------------------

    async def _until_settled(self, flight: InFlight) -> None:
        """Wait until this suspect is settled. If the next one killed the process now, this would be a suspect again."""
        try:
            await self._manager.leases.wait_gone(flight.claim_id)
        finally:
            self._is_settled(flight)

    def _is_settled(self, flight: InFlight) -> None:
        self._alone.discard(flight)
        self._alone_changed.set()


def _number_of(suspect: InFlight) -> int:
    """Return the number of a suspect's next attempt: not the first, if this owner has run it before a pause."""
    return suspect.paused.number if suspect.paused is not None and suspect.goes_on else 1
