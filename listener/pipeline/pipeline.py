"""The pipeline: the stages, wired. A listener and a replay both run it.

They differ in where events come from and in how events are buried.

    intake ───────▶ claiming ─▶ handling ─▶ storing ─▶ settling ─▶ out
       │              ▲  │ ▲        │          │           ▲
       └▶ peer check ─┘  ▼ │        └──────────┴── bury ───┘──▶ registrar
              └▶ out    standby
"""

import asyncio
import math
import random
from collections.abc import Callable, Sequence
from typing import Any

from unlost.listener.claims.manager import ClaimManager
from unlost.listener.core.batch_queue import BatchQueue
from unlost.listener.core.breaker import Breaker
from unlost.listener.core.clocks import Clocks
from unlost.listener.core.facts import Facts
from unlost.listener.core.in_flight import InFlight
from unlost.listener.core.order_key import nearest_key, nearest_policy
from unlost.listener.pipeline.attempt_runner import Refuse
from unlost.listener.pipeline.claiming import Claiming
from unlost.listener.pipeline.effect_recorder import EffectRecorder
from unlost.listener.pipeline.handlers import Handler
from unlost.listener.pipeline.handling import Handling
from unlost.listener.pipeline.healer import Healer
from unlost.listener.pipeline.inlet import Inlet
from unlost.listener.pipeline.intake import Intake
from unlost.listener.pipeline.key_watch import KeyWatch
from unlost.listener.pipeline.orderly_stop import OrderlyStop
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
from unlost.listener.pipeline.suspects import Suspects
from unlost.listener.ports.dead_letters import Burial, DeadLetters, HealingLetters, LetterRegister
from unlost.listener.ports.rows import Rows


class Pipeline:
    """Takes events in at ``intake``, through one inlet for each source. Every event that enters also ends."""

    def __init__(
        self,
        *,
        manager: ClaimManager,
        store: Rows,
        register: LetterRegister,
        store_breaker: Breaker,
        sink: DeadLetters,
        healing: HealingLetters,
        effects: EffectRecorder,
        who: str,
        handler: Handler | None,
        policy: Policy,
        clocks: Clocks,
        facts: Facts,
        rng: Callable[[], float] = random.random,
        refuse: Refuse | None = None,
    ) -> None:
        queue: BatchQueue[InFlight] = BatchQueue()
        self._manager = manager
        self._clocks = clocks
        self._affinity = affinity = PeerAffinity(queue, peer_wait=policy.peer_wait)
        self._policy = policy
        self._keys_of_types = handler.key_of_type if handler is not None and handler.keys else None
        of_types = handler.after_letter_of_type if handler is not None and handler.after_letters else None
        self._after_letter = nearest_policy(policy.after_letter, of_types)
        self._segment_length = policy.events_in_a_row(handled=handler is not None)
        self.inlets: list[Inlet] = []
        self.intake = Intake(policy=policy, affinity=affinity, clocks=clocks, facts=facts, turn_came=self._turn_came)
        self._peer_check = PeerCheck(affinity=affinity, manager=manager, intake=self.intake, clocks=clocks, facts=facts)
        self.healer = Healer(
            intake=self.intake, letters=healing, who=who, withdraw=self.withdraw, policy=policy.heal, clocks=clocks,
            facts=facts, rng=rng,
        )  # fmt: skip
        self.registrar = Registrar(
            register=register, letters=sink, reopened=self.healer.again, registered=self._registered,
            look_again_after=policy.letters_sure_after, clocks=clocks, facts=facts,
        )  # fmt: skip
        self.standby = Standby(queue=queue, manager=manager, policy=policy, clocks=clocks)
        self.settling = Settling(
            manager=manager, standby=self.standby, intake=self.intake, sink=sink, written=self.registrar.put,
            clocks=clocks, facts=facts,
        )  # fmt: skip
        self.store_watch = StoreWatch(store=store, breaker=store_breaker, clocks=clocks, facts=facts, rng=rng)
        self._join_stages(
            queue, store=store, store_breaker=store_breaker, effects=effects, handler=handler, facts=facts, rng=rng,
            refuse=refuse,
        )  # fmt: skip

    def _join_stages(
        self, queue: BatchQueue[InFlight], *, store: Rows, store_breaker: Breaker, effects: EffectRecorder,
        handler: Handler | None, facts: Facts, rng: Callable[[], float], refuse: Refuse | None,
    ) -> None:  # fmt: skip
        """Make the stages through which each event goes: claiming, then work and storing, then the orderly stop."""
        manager, policy, clocks = self._manager, self._policy, self._clocks
        policies = handler.after_letters if handler is not None else {}
        self.key_watch = KeyWatch(
            store=store, stops="stop" in (policy.after_letter, *policies.values()),
            unsaid=policy.after_letter == "stop", facts=facts,
        )  # fmt: skip
        settled_before = SettledBefore(
            manager=manager, store=store, intake=self.intake, settling=self.settling, standby=self.standby,
            clocks=clocks,
        )  # fmt: skip
        storing = Storing(
            store=store, breaker=store_breaker, watch=self.store_watch, settling=self.settling,
            settled_before=settled_before, policy=policy, clocks=clocks, facts=facts,
        )  # fmt: skip
        suspects = Suspects(at_once=policy.handle_concurrency)
        self.work: Recording | Handling = Recording(storing)
        if handler is not None:
            self.work = Handling(
                handler=handler, manager=manager, store=store, storing=storing, watch=self.store_watch,
                settling=self.settling, standby=self.standby, suspects=suspects, effects=effects,
                claim_again=queue.put_all, another_follows=self._another_follows, policy=policy, clocks=clocks,
                facts=facts, rng=rng, refuse=refuse,
            )  # fmt: skip
        self.claiming = Claiming(
            queue=queue, standby=self.standby, affinity=self._affinity, manager=manager, intake=self.intake,
            store=store, watch=self.store_watch, work=self.work, settling=self.settling,
            settled_before=settled_before, suspects=suspects, policy=policy, clocks=clocks, facts=facts,
        )  # fmt: skip
        self._suspects = suspects
        self._stop = OrderlyStop(
            manager=manager, store=store, intake=self.intake, claiming=self.claiming, suspects=suspects,
            work=self.work, settling=self.settling, healer=self.healer, clocks=clocks,
        )  # fmt: skip
        self.drain = self._stop.drain
        self.finish = self._stop.finish

    def inlet(
        self,
        source: str,
        *,
        shared: bool = False,
        acknowledge: Callable[[Sequence[Any]], None] | None = None,
        key: str = "",
    ) -> Inlet:
        """Make the way in for one source. ``acknowledge`` gets the receipts of what is settled.

        ``key``: the path of the key of its events, if the source declares one.
        """
        key_of = nearest_key(self._policy.order_by, key, self._keys_of_types)
        segmenter = None
        # A segment is settled as a whole. With keys, whether its events may be claimed depends on others before it.
        if self._policy.peer_wait and not shared and key_of is None:
            segmenter = Segmenter(self._manager.share, length=self._segment_length)
        inlet = Inlet(
            source=source, intake=self.intake, segmenter=segmenter, affinity=self._affinity,
            max_bytes=self._policy.max_event_bytes, clocks=self._clocks, acknowledge=acknowledge,
            key_of=key_of, after_letter=self._after_letter,
        )  # fmt: skip
        self.inlets.append(inlet)
        return inlet

    def _turn_came(self, flights: Sequence[InFlight]) -> None:
        self.claiming.ahead.turn_came(flights)

    def _another_follows(self, flight: InFlight) -> bool:
        return self.intake.order.used and self.claiming.ahead.next_is_held(flight)

    def _registered(self, burials: Sequence[Burial]) -> None:
        self.key_watch.registered(burials)
        self.settling.registered(burials)

    async def run(self) -> None:
        """Run all stages until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.settling.run(), name="settling")
            tasks.create_task(self.registrar.run(), name="register letters")
            tasks.create_task(self.store_watch.run(), name="watch the store")
            tasks.create_task(self.key_watch.run(), name="watch blocked keys")
            tasks.create_task(self.work.run(), name="work")
            tasks.create_task(self._peer_check.run(), name="check peers")
            tasks.create_task(self._heal(), name="heal letters")
            self._stop.claiming_task = tasks.create_task(self.claiming.run(), name="claiming")

    async def _heal(self) -> None:
        """Heal letters once no other handler is at work: until then this listener may settle none of their events."""
        await self._manager.agreement.wait()
        await self.healer.run()

    async def withdraw(self, flights: Sequence[InFlight]) -> bool:
        """Take out events of letters if all wait for a route that pauses; return whether it did."""
        waiting = self.work.waiting_longer_than(math.inf)
        if not all(one.claim_id in waiting and self.intake.is_alone(one) for one in flights):
            return False
        for one in flights:
            self.work.withdraw(one)
            self.intake.forget(one)
        await self._stop.give_back([one.claim_id for one in flights])
        return True

    def lose(self, claim_ids: Sequence[str]) -> None:
        """Stop the work of claims that were lost. Their events stand by again."""
        for claim_id in claim_ids:
            flight = self.intake.find(claim_id)
            if flight is not None and self.work.lose(flight):
                self.standby.put([(flight, 0.0)])
