"""The pipeline: the stages, wired. Both a listener and a replay run it; they differ in where events come from
and in what burying means.

    intake ────▶ claiming ─▶ handling ─▶ storing ─▶ settling ─▶ out
       │          ▲  │ ▲         │          │           ▲
       └▶ looking ┘  ▼ │         └──────────┴── doom ───┘──▶ registrar
             └▶ out  standby
"""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Protocol

from listener.breaker import Breaker
from listener.claims.desk import Desk
from listener.facts import Facts
from listener.handlers import Handler
from listener.pipeline.claiming import Claiming
from listener.pipeline.handling import Handling
from listener.pipeline.inbox import Inbox
from listener.pipeline.intake import Clocks, Intake
from listener.pipeline.looking import Looking
from listener.pipeline.passage import Passage
from listener.pipeline.policy import Policy
from listener.pipeline.recording import Recording
from listener.pipeline.registrar import Letters, Registrar
from listener.pipeline.settling import Graveyard, Settling
from listener.pipeline.storing import Storing
from listener.pipeline.stretches import Cutter
from listener.pipeline.turns import Turns
from listener.store.port import Register, Rows

QUIET_SECONDS = 3.0
"""How long a drain waits for the answer to a claim under way: unheard, it would lock peers out for a lease."""


def _alone() -> tuple[int, int]:
    """The share of who has no peers."""
    return 0, 1


class DeadLetters(Graveyard, Letters, Protocol):
    """Where events are buried, and what lies there."""


class Pipeline:
    """Takes events in at ``intake``; everything that enters ends."""

    def __init__(
        self,
        *,
        desk: Desk,
        store: Rows,
        register: Register,
        store_breaker: Breaker,
        graveyard: DeadLetters,
        handler: Handler | None,
        policy: Policy,
        clocks: Clocks,
        facts: Facts,
    ) -> None:
        claiming: Inbox[Passage] = Inbox()
        self._desk = desk
        turns = Turns(claiming, peer_wait=policy.peer_wait)
        length = policy.events_in_a_row(handled=handler is not None)
        cutter = Cutter(desk.share if policy.peer_wait else _alone, length=length)
        self.intake = Intake(policy=policy, cutter=cutter, turns=turns, clocks=clocks, facts=facts)
        self._looking = Looking(turns=turns, desk=desk, intake=self.intake, clocks=clocks, facts=facts)
        self.registrar = Registrar(
            register=register, letters=graveyard, look_again_after=policy.letters_sure_after, clocks=clocks, facts=facts
        )
        self.settling = Settling(
            desk=desk, intake=self.intake, graveyard=graveyard, written=self.registrar.put, clocks=clocks, facts=facts
        )
        storing = Storing(
            store=store, breaker=store_breaker, settling=self.settling, policy=policy, clocks=clocks, facts=facts
        )
        self.work: Recording | Handling = Recording(storing)
        if handler is not None:
            self.work = Handling(
                handler=handler, desk=desk, store=store, storing=storing, settling=self.settling,
                policy=policy, clocks=clocks, facts=facts,
            )  # fmt: skip
            self.work.on_claim_lost = self._ran_out
        self.claiming = Claiming(
            inbox=claiming, turns=turns, desk=desk, intake=self.intake, store=store, work=self.work,
            settling=self.settling, policy=policy, clocks=clocks, facts=facts,
        )  # fmt: skip
        storing.on_conflict = self.claiming.conflict
        storing.on_buried = self.claiming.buried_before
        self.settling.on_claim_lost = self._ran_out
        desk.hear_of_lost(self._lost)
        self._claiming_task: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Run all stages until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.settling.run(), name="settling")
            tasks.create_task(self.registrar.run(), name="register letters")
            tasks.create_task(self.work.run(), name="work")
            tasks.create_task(self._looking.run(), name="looking")
            self._claiming_task = tasks.create_task(self.claiming.run(), name="claiming")

    async def drain(self, seconds: float) -> int:
        """Claim nothing more, let what runs finish, give the rest back. How many claims had to be given back.

        What has not begun is given back at once, and what does not finish in time after it was stopped.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(QUIET_SECONDS):
                await self.claiming.quiet()
        if self._claiming_task is not None:
            self._claiming_task.cancel()
        given_back = await self._give_back(await self.work.stop(begun=False))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._desk.wait_below(1)
        await self.work.stop(begun=True)
        return given_back + await self._give_back([passage.claim_id for passage in self.intake.inside()])

    async def _give_back(self, claim_ids: Sequence[str]) -> int:
        held = [claim_id for claim_id in claim_ids if self._desk.is_held(claim_id)]
        await self._desk.release(held)
        return len(held)

    def _ran_out(self, passage: Passage) -> None:
        """By our own clock. Held on, it could be granted anew, and a suspect that waits for its end would wait on."""
        self._desk.let_go([passage.claim_id])
        self.claiming.stand_by([(passage, 0.0)])

    def _lost(self, claim_ids: Sequence[str]) -> None:
        for claim_id in claim_ids:
            passage = self.intake.find(claim_id)
            if passage is not None and self.work.lose(passage):
                self.claiming.stand_by([(passage, 0.0)])
