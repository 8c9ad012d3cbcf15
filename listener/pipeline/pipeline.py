"""The pipeline: the stages, wired. A listener and a replay both run it.

They differ in where events come from and in what burying means.

    intake ───────▶ claiming ─▶ handling ─▶ storing ─▶ settling ─▶ out
       │              ▲  │ ▲        │          │           ▲
       └▶ peer check ─┘  ▼ │        └──────────┴── bury ───┘──▶ registrar
              └▶ out    standby
"""

import asyncio
import contextlib
import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

from unlost.listener.claims.manager import ClaimManager
from unlost.listener.core.batch_queue import BatchQueue
from unlost.listener.core.breaker import Breaker
from unlost.listener.core.cause import DeadLetterCause
from unlost.listener.core.claim import Dead, Done
from unlost.listener.core.clocks import Clocks
from unlost.listener.core.errors import Permanent, Stopped, Transient, failure_of
from unlost.listener.core.facts import Facts
from unlost.listener.core.in_flight import InFlight
from unlost.listener.pipeline.claiming import Claiming
from unlost.listener.pipeline.handlers import Handler
from unlost.listener.pipeline.handling import Handling
from unlost.listener.pipeline.healer import Healer
from unlost.listener.pipeline.intake import Intake
from unlost.listener.pipeline.peers.affinity import PeerAffinity
from unlost.listener.pipeline.peers.peer_check import PeerCheck
from unlost.listener.pipeline.peers.segments import Segmenter
from unlost.listener.pipeline.policy import Policy
from unlost.listener.pipeline.recording import Recording
from unlost.listener.pipeline.registrar import Registrar
from unlost.listener.pipeline.settled_before import SettledBefore
from unlost.listener.pipeline.settling import Settling
from unlost.listener.pipeline.standby import Standby
from unlost.listener.pipeline.store_watch import StoreWatch
from unlost.listener.pipeline.storing import Storing
from unlost.listener.ports.dead_letters import DeadLetters, LetterRegister
from unlost.listener.ports.rows import Rows

QUIET_SECONDS = 3.0
"""How long a drain waits for the answer to a running claim. If nobody reads it, peers must wait for a whole lease."""
LETTERS_SECONDS = 5.0
"""How long to retry at the end if the file accepts no letters."""
LOOK_AT_ONCE = 1_000
STOPPED = DeadLetterCause("stopped", "receive")


def _alone() -> tuple[int, int]:
    """The share of a listener without peers."""
    return 0, 1


class Drained(NamedTuple):
    """How a drain ended: claims released, letters written, and events left without a row or a letter."""

    released: int
    buried: int = 0
    missing: int = 0


class Pipeline:
    """Takes events in at ``intake``. Every event that enters ends."""

    def __init__(
        self,
        *,
        manager: ClaimManager,
        store: Rows,
        register: LetterRegister,
        store_breaker: Breaker,
        sink: DeadLetters,
        who: str,
        handler: Handler | None,
        policy: Policy,
        clocks: Clocks,
        facts: Facts,
        dice: Callable[[], float] = random.random,
    ) -> None:
        queue: BatchQueue[InFlight] = BatchQueue()
        self._manager = manager
        self._store = store
        self._clocks = clocks
        affinity = PeerAffinity(queue, peer_wait=policy.peer_wait)
        length = policy.events_in_a_row(handled=handler is not None)
        segmenter = Segmenter(manager.share if policy.peer_wait else _alone, length=length)
        self.intake = Intake(policy=policy, segmenter=segmenter, affinity=affinity, clocks=clocks, facts=facts)
        self._peer_check = PeerCheck(affinity=affinity, manager=manager, intake=self.intake, clocks=clocks, facts=facts)
        self.healer = Healer(intake=self.intake, letters=sink, who=who, facts=facts)
        self.registrar = Registrar(
            register=register, letters=sink, reopened=self.healer.again, look_again_after=policy.letters_sure_after,
            clocks=clocks, facts=facts,
        )  # fmt: skip
        self.standby = Standby(queue=queue, manager=manager, policy=policy, clocks=clocks)
        self.settling = Settling(
            manager=manager, standby=self.standby, intake=self.intake, sink=sink, written=self.registrar.put,
            clocks=clocks, facts=facts,
        )  # fmt: skip
        settled_before = SettledBefore(
            manager=manager, store=store, intake=self.intake, settling=self.settling, standby=self.standby,
            clocks=clocks,
        )  # fmt: skip
        self.store_watch = StoreWatch(store=store, breaker=store_breaker, clocks=clocks, facts=facts, dice=dice)
        storing = Storing(
            store=store, breaker=store_breaker, watch=self.store_watch, settling=self.settling,
            settled_before=settled_before, policy=policy, clocks=clocks, facts=facts,
        )  # fmt: skip
        self.work: Recording | Handling = Recording(storing)
        if handler is not None:
            self.work = Handling(
                handler=handler, manager=manager, store=store, storing=storing, watch=self.store_watch,
                settling=self.settling, standby=self.standby, policy=policy, clocks=clocks, facts=facts,
            )  # fmt: skip
        self.claiming = Claiming(
            queue=queue, standby=self.standby, affinity=affinity, manager=manager, intake=self.intake, store=store,
            watch=self.store_watch, work=self.work, settling=self.settling, settled_before=settled_before,
            policy=policy, clocks=clocks, facts=facts,
        )  # fmt: skip
        manager.leases.on_lost = self._lost
        self._claiming_task: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Run all stages until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.settling.run(), name="settling")
            tasks.create_task(self.registrar.run(), name="register letters")
            tasks.create_task(self.store_watch.run(), name="watch the store")
            tasks.create_task(self.work.run(), name="work")
            tasks.create_task(self._peer_check.run(), name="check peers")
            tasks.create_task(self._heal(), name="heal letters")
            self._claiming_task = tasks.create_task(self.claiming.run(), name="claiming")

    async def _heal(self) -> None:
        """Heal letters once no other handler is at work: until then this listener could settle none of their events."""
        await self._manager.agreement.wait()
        await self.healer.run()

    async def drain(self, seconds: float) -> Drained:
        """Claim nothing more, let running work finish, and release the rest: the source sends it again.

        Events that have not begun are released at once. Those that do not finish in time are stopped, then released.
        """
        await self._claim_no_more()
        given_back = await self._give_back(await self.work.stop(begun=False))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._manager.leases.wait_below(1)
        await self.work.stop(begun=True)
        return Drained(given_back + await self._give_back([flight.claim_id for flight in self.intake.inside()]))

    async def finish(self, seconds: float) -> Drained:
        """Drain for a source that cannot send again: settle what the time allows, and write letters for the rest."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.intake.wait_until_empty()
        await self._claim_no_more()
        await self.work.stop(begun=True)
        left = await self._unsettled(self.intake.left())
        error = Stopped("the listener was stopped before this event was settled, and its source does not send it again")
        failure = failure_of(error, stage="receive", at=self._clocks.now())
        held = [flight.claim_id for flight in self.intake.inside()]
        missing = await self.settling.bury_rest(left, STOPPED, failure, seconds=LETTERS_SECONDS)
        return Drained(await self._give_back(held), len(left) - missing, missing)

    async def _unsettled(self, flights: Sequence[InFlight]) -> list[InFlight]:
        """Leave out what a peer has settled meanwhile. If PostgreSQL does not answer, all get letters."""
        known: dict[str, Done | Dead] = {}
        with contextlib.suppress(Transient, Permanent, TimeoutError):
            async with asyncio.timeout(QUIET_SECONDS):
                for first in range(0, len(flights), LOOK_AT_ONCE):
                    known |= await self._store.settled([one.request for one in flights[first : first + LOOK_AT_ONCE]])
        return [one for one in flights if not ((answer := known.get(one.claim_id)) and answer.same)]

    async def _claim_no_more(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(QUIET_SECONDS):
                await self.claiming.quiet()
        if self._claiming_task is not None:
            self._claiming_task.cancel()

    async def _give_back(self, claim_ids: Sequence[str]) -> int:
        held = [claim_id for claim_id in claim_ids if self._manager.leases.is_held(claim_id)]
        await self._manager.leases.release(held)
        return len(held)

    def _lost(self, claim_ids: Sequence[str]) -> None:
        for claim_id in claim_ids:
            flight = self.intake.find(claim_id)
            if flight is not None and self.work.lose(flight):
                self.standby.put([(flight, 0.0)])
