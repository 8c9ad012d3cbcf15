"""Handling with fakes around it, and handlers whose runs the test holds, fails or counts."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from tests.support.claims import FakeManager
from tests.support.fakes import as_a, unused
from tests.support.rows import FakeRows
from tests.support.stages import Ends, Returned
from tests.support.stand_ins import Watch
from unlost.listener.claims.manager import ClaimManager
from unlost.listener.core.attempts import AttemptPolicy
from unlost.listener.core.clocks import Clocks
from unlost.listener.core.delivery import Delivery
from unlost.listener.core.event import Event
from unlost.listener.core.facts import Facts
from unlost.listener.core.in_flight import InFlight
from unlost.listener.pipeline.effect_recorder import EffectRecorder
from unlost.listener.pipeline.handlers import Call, FunctionHandler
from unlost.listener.pipeline.handling import Handling
from unlost.listener.pipeline.policy import Policy
from unlost.listener.pipeline.settling import Settling
from unlost.listener.pipeline.standby import Standby
from unlost.listener.pipeline.store_watch import StoreWatch
from unlost.listener.pipeline.storing import Storing
from unlost.listener.pipeline.suspects import Suspects

POLICY = Policy(handle_concurrency=2, handle_attempts=2, handle_delay=0.01)
DEFAULT = AttemptPolicy("h")


class FakeHandler:
    """A handler whose events run until released, or fail as often as the test says."""

    def __init__(self, *, at_once: bool = False, fails: dict[str, int] | None = None) -> None:
        self.running: list[str] = []
        self.begun: list[str] = []
        self.most = 0
        self._fails = fails or {}
        self._at_once = at_once
        self._go: dict[str, asyncio.Event] = {}
        self._changed = asyncio.Event()

    async def __call__(self, delivery: Delivery) -> None:
        id_ = delivery.event_id
        self.begun.append(id_)
        self.running.append(id_)
        self.most = max(self.most, len(self.running))
        self._changed.set()
        try:
            if not self._at_once:
                await self._go.setdefault(id_, asyncio.Event()).wait()
            await asyncio.sleep(0)
            if self._fails.get(id_, 0) >= delivery.attempt:
                raise ValueError("it fails")
        finally:
            self.running.remove(id_)

    def let_go(self, id_: str) -> None:
        self._go.setdefault(id_, asyncio.Event()).set()

    async def until(self, seen: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not seen():
                self._changed.clear()
                await self._changed.wait()


class Dependency:
    """A server that a handler needs: dead until it is revived."""

    def __init__(self, *, needed_by: str = "") -> None:
        self.alive = False
        self.most = self.running = self.tried = 0
        self.attempts: list[tuple[str, int]] = []
        self._needed_by = needed_by
        self.tried_often = asyncio.Event()

    async def __call__(self, delivery: Delivery) -> None:
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(0)
            self.attempts.append((delivery.event_id, delivery.attempt))
            if not self.alive and delivery.event_id.startswith(self._needed_by):
                self.tried += 1
                if self.tried > 40:
                    self.tried_often.set()
                raise ConnectionError("refused")
        finally:
            self.running -= 1


class Routed(FunctionHandler):
    """A handler whose events have policies of their own."""

    def __init__(
        self, call: Call, policy_of: Callable[[Event], AttemptPolicy], policies: Sequence[AttemptPolicy] = (DEFAULT,)
    ) -> None:
        super().__init__("h", "plain", call)
        self.policies = policies
        self._policy_of = policy_of

    def policy_of(self, event: Event) -> AttemptPolicy:
        return self._policy_of(event)


@asynccontextmanager
async def handling_with(
    work: Callable[[Delivery], Awaitable[None]],
    manager: FakeManager | None = None,
    outages: int = 0,
    policy: Policy = POLICY,
    handler: FunctionHandler | None = None,
    facts: Facts = lambda _: None,
    monotonic: Callable[[], float] = time.monotonic,
    rng: Callable[[], float] = random.random,
    rows: FakeRows | None = None,
    another_follows: Callable[[InFlight], bool] = lambda _: False,
) -> AsyncIterator[tuple[Handling, Ends]]:
    ends, suspects = Ends(), Suspects(at_once=2)
    handling = Handling(
        handler=handler or FunctionHandler("h", "plain", work),
        manager=as_a(ClaimManager, FakeManager() if manager is None else manager),
        store=rows or FakeRows(), storing=as_a(Storing, ends), watch=as_a(StoreWatch, Watch(outages)),
        settling=as_a(Settling, ends), standby=as_a(Standby, Returned()), suspects=suspects,
        effects=unused(EffectRecorder),
        claim_again=lambda flights: handling.start_all(handling.admit(flights)), policy=policy,
        another_follows=another_follows,
        clocks=Clocks(lambda: 0.0, monotonic), facts=facts, rng=rng,
    )  # fmt: skip
    running = asyncio.create_task(handling.run())
    claiming = asyncio.create_task(_start_again(handling, suspects))
    await asyncio.sleep(0)
    yield handling, ends
    claiming.cancel()
    running.cancel()
    await asyncio.wait([running, claiming])
    assert running.cancelled()


async def _start_again(handling: Handling, suspects: Suspects) -> None:
    """Do as claiming does with suspects whose pause has ended."""
    while True:
        await suspects.wait()
        async with handling.alone():
            handling.start_suspects([suspect.flight for suspect in suspects.take_group()])
            await handling.idle_of_suspects()
