"""Aside: events that have no worker, between two attempts or while their route pauses.

Nothing of them runs, and they are outside the gate. So if the process dies then, none of them is a reason. Between two
attempts they stay claimed. When their route pauses they are released: a peer whose route flows may have them.
"""

import asyncio
import math
from collections.abc import Callable, Iterable, Mapping, Sequence

from unlost.listener.claims.manager import ClaimManager
from unlost.listener.core.clocks import Clocks
from unlost.listener.core.in_flight import InFlight, Paused
from unlost.listener.pipeline.event_tasks import EventTasks
from unlost.listener.pipeline.policy import Policy
from unlost.listener.pipeline.retries import Retries
from unlost.listener.pipeline.route_queues import Attempt, Entry, RouteQueues
from unlost.listener.pipeline.suspects import Suspect, Suspects
from unlost.listener.pipeline.work import WaitingEvent
from unlost.listener.pipeline.workers import Workers

HOLD_BACK_SECONDS = 1.0
"""The pause before a suspect of a paused route is tried again."""


class Aside:
    """Lets attempts wait, and gives them back to workers. Suspects are claimed again, since others run meanwhile."""

    def __init__(
        self,
        *,
        queues: RouteQueues,
        workers: Workers,
        suspects: Suspects,
        manager: ClaimManager,
        tasks: EventTasks,
        claim_again: Callable[[Sequence[InFlight]], None],
        policy: Policy,
        clocks: Clocks,
    ) -> None:
        self._queues = queues
        self._workers = workers
        self._suspects = suspects
        self._leases = manager.leases
        self._tasks = tasks
        self._claim_again = claim_again
        self._retries = Retries(policy=policy, due=self._pauses_ended, clocks=clocks)
        self.run = self._retries.run
        self.has_room_for = self._retries.has_room_for
        self.later_than = self._retries.later_than

    def __len__(self) -> int:
        """How many held claims belong to events that wait here."""
        return len(self._retries) + self._queues.held_back

    @property
    def by_route(self) -> Mapping[str, int]:
        """How many events of each route wait in memory for another attempt, or for the route."""
        between = self._retries.by_route()
        return {route: count + between[route] for route, count in self._queues.waiting.items()}

    def next(self, most: int) -> Sequence[WaitingEvent]:
        """Return the events between two attempts whose next attempt comes first."""
        return self._retries.next(most)

    def waiting_longer_than(self, seconds: float) -> set[str]:
        """See ``Work``."""
        pausing = [one for one in self._retries.later_than(-math.inf) if one.queue.pauses]
        pausing += [one for one in self._retries.later_than(seconds) if one.entry != "suspect"]
        return {flight.claim_id for flight in (*self._queues.of_paused_routes(), *(one.flight for one in pausing))}

    def take_out(self, claim_id: str) -> bool:
        """Take out an event between two attempts; return whether it was one."""
        if self._retries.pop(claim_id) is None:
            return False
        self._leases.look_again()
        return True

    async def pause(self, attempt: Attempt, number: int, seconds: float) -> None:
        """Let an event wait for its next attempt."""
        entry: Entry = "suspect" if attempt.entry == "suspect" else "fresh"
        flight = attempt.flight
        if entry == "suspect":
            flight.paused = Paused(flight.epoch, number, await self._leases.part(flight.claim_id))
            await asyncio.sleep(0)  # if that call found the claim lost, this task was cancelled and must not go on
        self._retries.put(attempt._replace(number=number, entry=entry), seconds)
        self._leases.look_again()

    def stand_aside(self, attempt: Attempt) -> None:
        """Leave the gate, so that others can run: the route of this event pauses."""
        task = self._tasks.start_for(attempt.flight, self.hold_back(attempt))
        task.add_done_callback(lambda _: self._workers.gate.leave(attempt))

    async def hold_back(self, attempt: Attempt) -> None:
        """Let an event wait until its route resumes, or until it is the probe."""
        if attempt.entry == "suspect":
            await self.pause(attempt, attempt.number, HOLD_BACK_SECONDS)
        elif attempt.is_given_back:
            await self._give_back([attempt])
        else:
            # Not "inside": while its route pauses, the event must not keep suspects waiting.
            self._queues.put(attempt._replace(entry="fresh"), first=True)
            self._leases.look_again()

    def give_back(self, attempts: Sequence[Attempt]) -> None:
        """Release these, which nothing else holds any more: their route pauses."""
        if attempts:
            self._tasks.start(self._give_back(attempts), "release events of a route that pauses")

    async def _give_back(self, attempts: Sequence[Attempt]) -> None:
        # Only then they may be claimed again: a release that came later would end the new claim.
        await self._leases.release([one.flight.claim_id for one in attempts])
        resumed = []
        for flight, queue, number, _ in attempts:
            flight.next_attempt = number
            if queue.pauses:
                queue.parked[flight.claim_id] = flight
                queue.parked.move_to_end(flight.claim_id, last=False)  # those that were not tried come before it
            else:
                resumed.append(flight)
        self._claim_again(resumed)

    def _pauses_ended(self, attempts: Iterable[Attempt]) -> None:
        given_back = []
        for attempt in attempts:
            if attempt.is_given_back:
                given_back.append(attempt)
            elif attempt.entry == "suspect":
                paused = attempt.flight.paused
                self._suspects.put_all([Suspect(attempt.flight, paused.company if paused else None)])
            else:
                self._queues.put(attempt, first=True)
                self._workers.start()
        self.give_back(given_back)
