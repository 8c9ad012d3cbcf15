"""Handling: runs the user's code within limits of time, attempts and number, for both forms of handler."""

import asyncio
import math
import random
from collections.abc import Callable, Mapping, Sequence

from unlost.listener.claims.manager import ClaimManager
from unlost.listener.core.attempts import must_fit
from unlost.listener.core.cause import DeadLetterCause, Reason
from unlost.listener.core.clocks import Clocks
from unlost.listener.core.errors import InvalidPayload, Permanent, Reject, Transient
from unlost.listener.core.facts import Facts
from unlost.listener.core.in_flight import InFlight
from unlost.listener.pipeline.aside import Aside
from unlost.listener.pipeline.attempt_runner import AttemptRunner, ClaimLost, Refuse
from unlost.listener.pipeline.effect_recorder import EffectRecorder
from unlost.listener.pipeline.event_tasks import EventTasks
from unlost.listener.pipeline.failures import Failures
from unlost.listener.pipeline.handlers import Handler
from unlost.listener.pipeline.policy import Policy
from unlost.listener.pipeline.route_pauses import RoutePauses
from unlost.listener.pipeline.route_queues import Attempt, Entry, RouteQueues
from unlost.listener.pipeline.settling import Settling
from unlost.listener.pipeline.standby import Standby
from unlost.listener.pipeline.store_watch import StoreWatch
from unlost.listener.pipeline.storing import Storing
from unlost.listener.pipeline.suspects import Suspects
from unlost.listener.pipeline.workers import Workers
from unlost.listener.ports.rows import Rows, TransactionPipeline


class Handling:
    """Runs a handler of either form.

    Up to ``handle_concurrency`` workers (``workers.py``) take waiting events, one after another. Events that pause
    between two attempts, or for their route (``route_pauses.py``), have no worker (``aside.py``). Tasks of their own
    have only the end of a failed attempt, the end of the last one, and the wait until a suspect is settled.
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
        another_follows: Callable[[InFlight], bool] = lambda _: False,
        policy: Policy,
        clocks: Clocks,
        facts: Facts,
        rng: Callable[[], float] = random.random,
        refuse: Refuse | None = None,
    ) -> None:
        must_fit(handler.policies, timeout=policy.handle_timeout, concurrency=policy.handle_concurrency)
        self._handler = handler
        self._manager = manager
        self._failures = Failures("handle", watch=watch, clocks=clocks, facts=facts, rng=rng)
        self._storing = storing
        self._settling = settling
        self._standby = standby
        self._clocks = clocks
        self._tasks = EventTasks()
        self._queues = RouteQueues(handler, policy, clocks.monotonic, rng)
        self.admit = self._queues.admit
        self._workers = Workers(
            self._queues, self._tasks, at_once=policy.handle_concurrency, take=self._take,
            another_follows=another_follows,
        )  # fmt: skip
        self._gate = self._workers.gate
        self.alone = self._gate.alone
        self.idle_of_suspects = self._gate.idle_of_suspects
        self._aside = Aside(
            queues=self._queues, workers=self._workers, suspects=suspects, manager=manager, tasks=self._tasks,
            claim_again=claim_again, policy=policy, clocks=clocks,
        )  # fmt: skip
        self.next_retries = self._aside.next
        self.waiting_longer_than = self._aside.waiting_longer_than
        self._pauses = RoutePauses(
            queues=self._queues, workers=self._workers, aside=self._aside, tasks=self._tasks, claim_again=claim_again,
            manager=manager, policy=policy, clocks=clocks, facts=facts,
        )  # fmt: skip
        self.hold = self._pauses.hold
        self._runner = AttemptRunner(
            handler=handler, manager=manager, store=store, storing=storing, watch=watch, clocks=clocks, facts=facts,
            tasks=self._tasks, effects=effects, refuse=refuse,
        )  # fmt: skip

    @property
    def seconds(self) -> float:
        """How long an attempt takes, on average."""
        return self._runner.seconds

    @property
    def aside(self) -> int:
        """How many held claims belong to events that pause. They have a limit of their own."""
        return len(self._aside)

    @property
    def pausing(self) -> Mapping[str, int]:
        """How many events of each route wait in memory for another attempt, or for the route."""
        return self._aside.by_route

    @property
    def paused(self) -> Mapping[str, str]:
        """The routes that pause, each with the error of its attempts."""
        return self._queues.paused

    def withdraw(self, flight: InFlight) -> None:
        """See ``Work``."""
        if self._queues.of(flight.event).parked.pop(flight.claim_id, None) is None:
            self._take_out(flight.claim_id)

    async def run(self) -> None:
        """Handle until cancelled."""
        async with asyncio.TaskGroup() as self._tasks.group:
            self._tasks.start(self._aside.run(), "retries")
            try:
                await self._storing.run()
            finally:
                self._tasks.ending = True

    def start_all(self, flights: Sequence[InFlight]) -> None:
        """Queue the next attempts of these: the first ones, unless a pause of their route interrupted them."""
        given_back = []
        for flight in flights:
            if flight.handled or not self._handler.runs(flight.event.type):
                self._runner.end(flight)
                continue
            attempt = Attempt(flight, self._queues.of(flight.event), flight.next_attempt, "fresh")
            if attempt.is_given_back and flight.claim_id != attempt.queue.probe:  # claimed before the pause began
                given_back.append(attempt)
            else:
                self._queues.put(attempt)
                self._workers.start()
        self._aside.give_back(given_back)

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
        queue = self._queues.of(flight.event)
        return not queue.is_limited and not queue.pauses

    def start_suspects(self, flights: Sequence[InFlight]) -> None:
        """Start these at once. The caller passes no more than may run at once."""
        for flight in flights:
            self._gate.enter_suspect(flight)
            if flight.handled or not self._handler.runs(flight.event.type):
                self._runner.end(flight)
                self._tasks.start(self._until_settled(flight), "suspect")
            else:
                attempt = Attempt(flight, self._queues.of(flight.event), _number_of(flight), "suspect")
                if attempt.queue.pauses and not attempt.queue.may_start:
                    self._aside.stand_aside(attempt)
                else:
                    self._queues.put(attempt)
                    self._workers.start()

    async def stop(self, *, begun: bool, seconds: float = 0.0) -> list[str]:
        """Cancel handlers and wait until they have ended. Only then may their claims be released.

        Unless ``begun``, only events that have not begun are stopped, and those whose pause exceeds ``seconds``.
        """
        waiting = [one for one in self._queues.all() if begun or not one.has_begun or one.queue.pauses]
        waiting += self._aside.later_than(-math.inf if begun else seconds)
        stopped = [attempt.flight.claim_id for attempt in waiting if self._take_out(attempt.flight.claim_id)]
        return stopped + await self._tasks.stop(begun=begun)

    def lose(self, flight: InFlight) -> bool:
        """Cancel the handler of an event whose claim is lost."""
        return self._take_out(flight.claim_id) or self._tasks.cancel(flight.claim_id)

    # -- attempts -------------------------------------------------------------------------------

    def _take_out(self, claim_id: str) -> bool:
        """Take out an event that waits for a worker or pauses; return whether it did."""
        self._tasks.put_back(claim_id)
        if self._aside.take_out(claim_id):
            return True
        if (attempt := self._queues.pop(claim_id)) is None:
            return False
        if attempt.entry != "fresh":
            self._gate.leave(attempt)
        return True

    async def _take(self, attempt: Attempt, transactions: TransactionPipeline) -> None:
        """Run one attempt. The event stays inside the gate until the attempt has ended and been counted."""
        flight, queue = attempt.flight, attempt.queue
        claim_id = flight.claim_id  # a conflict gives the event another claim
        task = self._tasks.enter(claim_id)
        queue.running += 1
        self._gate.enter(attempt)
        goes_on = False
        began = self._clocks.monotonic()
        try:
            if await self._runner.run(attempt, None if attempt.entry == "suspect" else transactions):
                self._pauses.succeeded(queue)
            if attempt.entry == "suspect":
                goes_on = True
                self._tasks.start(self._until_settled(flight), "suspect")
        except Reject as error:
            self._reject(flight, error)
        except (Transient, Permanent) as error:
            goes_on = True
            after = self._tasks.start_for(flight, self._after_failure(attempt, error, began))
            after.add_done_callback(lambda done: self._gate.leave(attempt) if done.cancelled() else None)
        except ClaimLost:
            self._standby.ran_out(flight)
        finally:
            queue.running -= 1
            if not goes_on:
                self._gate.leave(attempt)
            self._tasks.forget(claim_id, task)
            if queue.is_limited:
                self._pauses.unpark(queue, queue.room)
                self._workers.start()

    async def _after_failure(self, attempt: Attempt, error: Transient | Permanent, began: float) -> None:
        flight = attempt.flight
        queue = attempt.queue
        again = await self._failures.again(
            flight, attempt.number, error, began, queue.retry, counts=lambda: self._pauses.counts(attempt, error, began)
        )
        if again is not None and not again.pause and not queue.pauses:
            entry: Entry = "suspect" if attempt.entry == "suspect" else "inside"
            self._queues.put(attempt._replace(number=again.number, entry=entry), first=True)
            self._workers.start()
            return
        if queue.pauses and again is not None:
            await self._aside.hold_back(attempt._replace(number=again.number))
        elif again is None:
            self._tasks.start_for(flight, self._give_up(flight, error))
        elif self._aside.has_room_for(flight):
            await self._aside.pause(attempt, again.number, again.pause or 0.0)
        else:
            self._tasks.start_for(flight, self._storing.give_up(flight, "handle", "deferred"))
        self._gate.leave(attempt)

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
            self._gate.leave_suspect(flight)


def _number_of(suspect: InFlight) -> int:
    """Return the number of a suspect's next attempt: not the first, if this owner has run it before a pause."""
    return suspect.paused.number if suspect.paused is not None and suspect.goes_on else 1
