"""Claiming: decides which listener processes an event.

Fresh events and those that stood by are claimed in batches from one queue, suspects in groups.

With a handler, an event whose owner's lease ran out is a *suspect*: it may have killed its owner. Suspects are claimed
and run in small groups (``suspects.py``), while nothing else runs, so an event that kills its process condemns only
itself. Without a handler none of the user's code runs, and lapsed claims are taken over in batches like all others.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import assert_never

from unlost.listener.claims.manager import ClaimManager
from unlost.listener.core.batch_queue import BatchQueue
from unlost.listener.core.cause import DeadLetterCause
from unlost.listener.core.claim import UNHANDLED, Answer, ClaimRequest, Dead, Done, Held, Lapsed, Won
from unlost.listener.core.clocks import Clocks
from unlost.listener.core.errors import Failure, Permanent, Transient, failure_of
from unlost.listener.core.facts import BatchDone, EventsClaimed, EventsStandBy, EventsTakenOver, Facts
from unlost.listener.core.in_flight import InFlight
from unlost.listener.pipeline.claimed_ahead import ClaimedAhead
from unlost.listener.pipeline.intake import Intake
from unlost.listener.pipeline.lookup import Lookup
from unlost.listener.pipeline.peers.affinity import PeerAffinity
from unlost.listener.pipeline.policy import Policy
from unlost.listener.pipeline.settled_before import SettledBefore
from unlost.listener.pipeline.settling import Settling
from unlost.listener.pipeline.standby import Standby
from unlost.listener.pipeline.store_watch import StoreWatch
from unlost.listener.pipeline.suspects import Suspect, Suspects
from unlost.listener.pipeline.work import Work
from unlost.listener.ports.rows import Rows

CLOSED_PAUSE_SECONDS = 0.1
GATHER_SECONDS = 0.1
"""The claims of one lost owner run out within about this time. Without the wait, the first suspect would run alone."""


class Claiming:
    """Takes events from its queue, asks the claim manager, and routes each event by the answer."""

    def __init__(
        self,
        *,
        queue: BatchQueue[InFlight],
        standby: Standby,
        affinity: PeerAffinity,
        manager: ClaimManager,
        intake: Intake,
        store: Rows,
        watch: StoreWatch,
        work: Work,
        settling: Settling,
        settled_before: SettledBefore,
        suspects: Suspects,
        policy: Policy,
        clocks: Clocks,
        facts: Facts,
    ) -> None:
        self._queue = queue
        self._standby = standby
        self._affinity = affinity
        self._suspects = suspects
        self._manager = manager
        self._intake = intake
        self._lookup = Lookup(store=store, watch=watch, work=work, clocks=clocks, facts=facts)
        self._work = work
        self._settling = settling
        self._settled_before = settled_before
        self.ahead = ClaimedAhead(
            queue=queue, affinity=affinity, manager=manager, intake=intake, store=store, work=work,
            settled_before=settled_before, policy=policy, facts=facts,
        )  # fmt: skip
        self._policy = policy
        self._clocks = clocks
        self._facts = facts
        self._under_way = 0
        self._answered = asyncio.Event()
        self._ending = False

    async def run(self) -> None:
        """Claim until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._claim_for_ever(), name="claim")
            tasks.create_task(self._standby.run(), name="wake standbys")
            if self._work.handled:
                tasks.create_task(self._take_suspects(), name="take over suspects")

    async def quiet(self) -> None:
        """Send no more requests; return once all are answered. A claim whose answer is not read is not released."""
        self._ending = self.ahead.ending = True
        while self._under_way:
            self._answered.clear()
            await self._answered.wait()

    @property
    def _held(self) -> int:
        """How many claims are held for events that do not pause."""
        return len(self._manager.leases) - self._aside

    @property
    def _aside(self) -> int:
        """How many held claims count against other limits than that of claims which can run now."""
        return self._work.aside + len(self._intake.order.ahead)

    def _limit(self) -> int:
        return self._policy.claims_at_once(handled=self._work.handled, seconds=self._work.seconds)

    def _wait_below(self) -> int:
        return self._policy.claims_wait_below(handled=self._work.handled, seconds=self._work.seconds)

    async def _claim_for_ever(self) -> None:
        while True:
            if not self._manager.open:
                await self._manager.wait_open()
            while self._held >= self._wait_below():
                await self._manager.leases.wait_below(lambda: self._wait_below() + self._aside)
            batch = await self._queue.take(max(1, min(self._policy.batch, self._limit() - self._held)))
            self._affinity.taken()
            self._intake.report_received()
            admitted = self.ahead.admit(batch) if self._intake.order.used else self._work.admit(batch)
            while admitted and not await self._claim_batch(admitted, take_over=0 if self._work.handled else UNHANDLED):
                # Only these: events that are won may use up the claims limit, for which the loop above waits.
                await asyncio.sleep(CLOSED_PAUSE_SECONDS)
                await self._manager.wait_open()

    async def _take_suspects(self) -> None:
        while True:
            await self._suspects.wait()
            await asyncio.sleep(GATHER_SECONDS)
            await self._manager.wait_open()
            # Nothing else may run from before the claim on: if this process died, it would count against these.
            async with self._work.alone():
                group = self._suspects.take_group()
                admitted = {flight.claim_id for flight in self._work.admit([suspect.flight for suspect in group])}
                group = [suspect for suspect in group if suspect.flight.claim_id in admitted]
                if not group or await self._claim_batch([suspect.flight for suspect in group], take_over=len(group)):
                    await self._work.idle_of_suspects()
                    continue
            self._suspects.put_all(group)
            await asyncio.sleep(CLOSED_PAUSE_SECONDS)

    async def _claim_batch(self, batch: Sequence[InFlight], *, take_over: int) -> bool:
        """Claim a batch and route it. Return False if no answer came: the whole batch must be claimed again."""
        if self._ending:
            return False
        self._under_way += 1
        try:
            return await self._claim_and_route(batch, take_over=take_over)
        finally:
            self._under_way -= 1
            self._answered.set()

    async def _claim_and_route(self, batch: Sequence[InFlight], *, take_over: int) -> bool:
        started = self._clocks.monotonic()
        try:
            answers = await self._claim(batch, take_over=take_over)
            won = [p for p, answer in zip(batch, answers, strict=True) if _note(p, answer)]
            unsure = self._to_be_looked_up(won)
            settled = await self._lookup.settled(unsure, won)
            await self._lookup.park([p for p in won if p.blocking_key is not None and p.claim_id not in settled])
        except (Transient, Permanent):  # no answer ends the process: what it holds from some sources would be lost
            return False
        self._facts(BatchDone("claim", len(batch), self._clocks.monotonic() - started))
        self._affinity.record_won(
            [isinstance(a, Won) for p, a in zip(batch, answers, strict=True) if p.of_peer and not p.requests]
        )
        ours = [p for p in won if p.claim_id not in settled] if settled else won
        if self._intake.order.used:
            ours = self.ahead.hold(batch, ours)
        self._route_won(ours, self._work.start_suspects if take_over > 0 else self._work.start_all)
        ended = self._route_lost(batch, answers) if len(won) < len(batch) else []
        for flight in won if settled else ():
            match settled.get(flight.claim_id):
                case Done(same):
                    ended.append((flight, same))
                case Dead(same):
                    await self._settled_before.end_buried(flight, same=same)
        if ended:
            await self.ahead.catch_up([flight for flight, _ in ended if flight.order_key is not None])
            await self._settled_before.end(ended)
        return True

    def _claim(self, batch: Sequence[InFlight], *, take_over: int) -> Awaitable[list[Answer]]:
        revived = [p for p in batch if p.revive]
        if revived:
            return self._claim_revived(revived, batch, take_over=take_over)
        return self._manager.claim([p.request for p in batch], take_over=take_over)

    async def _claim_revived(
        self, revived: Sequence[InFlight], batch: Sequence[InFlight], *, take_over: int
    ) -> list[Answer]:
        answers = {
            p.claim_id: answer
            for group, revive in ((revived, True), ([p for p in batch if not p.revive], False))
            if group
            for p, answer in zip(
                group,
                await self._manager.claim([p.request for p in group], take_over=take_over, revive=revive),
                strict=True,
            )
        }
        return [answers[p.claim_id] for p in batch]

    def _to_be_looked_up(self, won: Sequence[InFlight]) -> list[ClaimRequest]:
        """Return the won events to look up in PostgreSQL first.

        A Redis that forgot has also lost "done" and "dead", so PostgreSQL is asked before a handler runs. It is also
        asked before an event is buried without a run: its last owner may have stored or buried it and died before it
        could report that.
        """
        before = self._work.must_look_before
        return [p.request for p in won if before(p) or p.cause is not None or (p.takeovers and self._condemned(p))]

    def _condemned(self, flight: InFlight) -> bool:
        alone = flight.alone if self._work.handled else 0
        return alone >= self._policy.max_takeovers and not flight.revive and not flight.handled

    def _route_won(self, won: Sequence[InFlight], start: Callable[[Sequence[InFlight]], None]) -> None:
        if not won:
            return
        self._facts(EventsClaimed([p.event.event_id for p in won]))
        if taken := [p.event.event_id for p in won if p.takeovers and not p.goes_on]:
            self._facts(EventsTakenOver(taken))
        begin = []
        for flight in won:
            if flight.cause is not None:
                self._settling.bury(flight, flight.cause)
            elif flight.takeovers and self._condemned(flight):
                flight.attempts.append(self._crash_loop(flight))
                self._settling.bury(flight, DeadLetterCause("crash_loop", "claim"))
            else:
                begin.append(flight)
        self.ahead.begin(begin, start)

    def _crash_loop(self, flight: InFlight) -> Failure:
        lost = f"{flight.takeovers} owners of this event died or froze while they held it"
        error = Permanent(f"{lost}, {flight.alone} of them while they ran no other")
        return failure_of(error, stage="claim", at=self._clocks.now())

    def _route_lost(self, batch: Sequence[InFlight], answers: Sequence[Answer]) -> list[tuple[InFlight, bool]]:
        """Let held events stand by; return the settled ones, each with whether it has the same content."""
        settled: list[tuple[InFlight, bool]] = []
        held: list[tuple[InFlight, float]] = []
        suspects: list[Suspect] = []
        for flight, answer in zip(batch, answers, strict=True):
            match answer:
                case Won():
                    continue
                case _ if flight.waits_for_key:
                    continue  # it was claimed ahead: its turn decides
                case Held(seconds_left):
                    held.append((flight, seconds_left))
                case Lapsed() if self._work.handled:
                    suspects.append(Suspect(flight, answer.most))
                case Lapsed():
                    held.append((flight, 0.0))  # its lease ended while we asked
                case Done(same) | Dead(same):
                    settled.append((flight, same))
                case _:
                    assert_never(answer)
        self._suspects.put_all(suspects)
        if held:
            self._standby.put(held)
            self._facts(EventsStandBy([flight.event.event_id for flight, _ in held]))
        return settled


def _note(flight: InFlight, answer: Answer) -> bool:
    """Record the answer to a claim; return whether it was won."""
    if not isinstance(answer, Won):
        return False
    flight.epoch = answer.epoch
    flight.takeovers = answer.takeovers
    flight.alone = answer.alone
    return True
