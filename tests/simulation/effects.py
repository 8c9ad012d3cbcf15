"""Effects in a simulation: the table with the rules of ``effects.sql``, its adapter, and the receiver of all calls.

The receiver refuses some calls, and loses some answers after it has accepted. It checks that no call comes before the
row is committed, and that no two come at the same moment.
"""

import asyncio
import copy
import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from tests.simulation.hooks import Hooks
from unlost.listener.core.effects import DELIVERED, DeliveryOutcome, Effect, NewEffect, body_of, key_of
from unlost.listener.core.event import Event

if TYPE_CHECKING:
    from tests.simulation.listener import Scene, Start
    from tests.simulation.postgres import Transaction
    from tests.simulation.postgres_adapters import Session

Place = tuple[str, int]
ARRIVES = (0.002, 0.05, 0.3)
"""How long a call may be on its way, and its answer too."""


class Stored(msgspec.Struct):
    """A row of ``effects``."""

    effect: Effect
    due_at: float
    status: str = "waiting"
    owner: str = ""
    until: float = float("-inf")


class EffectTable:
    """The table ``effects``."""

    def __init__(self, clock: Callable[[], float], hooks: Hooks) -> None:
        self._clock = clock
        self._hooks = hooks
        self.rows: dict[Place, Stored] = {}

    def copied(self) -> dict[Place, Stored]:
        """Return the content of a backup."""
        return copy.deepcopy(self.rows)

    def record(self, transaction: "Transaction", event_id: str, effects: Sequence[NewEffect]) -> None:
        """Write in a transaction, and only with the row."""
        if event_id in transaction.rows:
            transaction.recorded |= {
                (event_id, number): self.new(event_id, number, one) for number, one in enumerate(effects, 1)
            }

    def new(self, event_id: str, number: int, one: NewEffect) -> Stored:
        """Make a row."""
        key = key_of("unlost", event_id, number)
        effect = Effect(event_id, number, key, one.kind, one.url, one.host, one.headers, body_of(one, key), 0)
        return Stored(effect, self._clock())

    def take(self, token: str, most: int, lease: float, skip: Sequence[str], only: str | None) -> list[Effect]:
        """Lease what is ready."""
        now = self._clock()
        ready = [
            one
            for one in sorted(self.rows.values(), key=lambda one: one.due_at)
            if one.status == "waiting" and max(one.due_at, one.until) <= now
            and one.effect.host not in skip and only in (None, one.effect.host)
        ][:most]  # fmt: skip
        for one in ready:
            one.owner, one.until = token, now + lease
        return [msgspec.structs.replace(one.effect, taken_until=one.until) for one in ready]

    def delivered(self, place: Place) -> None:
        """Mark it."""
        found = self.rows.get(place)
        if found is not None and found.status != "delivered":
            found.status, found.owner = "delivered", ""
            self._hooks.effect_marked(found.effect.key)

    def failed(self, place: Place, token: str, until: float, wait: float, counts: bool) -> None:
        """Give it back, if it is still one's own, by the same taking."""
        found = self.rows.get(place)
        if found is not None and (found.owner, found.until) == (token, until) and found.status == "waiting":
            found.effect = msgspec.structs.replace(found.effect, attempts=found.effect.attempts + counts)
            found.due_at, found.owner, found.until = self._clock() + wait, "", float("-inf")


class SimulatedEffects:
    """``EffectRows`` on that table."""

    def __init__(self, session: "Session", *, token: str) -> None:
        self._session = session
        self._table = session.memory.recorded
        self._token = token

    async def record(self, connection: Any, event: Event, effects: Sequence[NewEffect]) -> None:
        await connection.record(event.event_id, effects)

    async def take(self, most: int, *, lease: float, skip: Sequence[str], only: str | None = None) -> list[Effect]:
        return await self._ask("take effects", lambda: self._table.take(self._token, most, lease, skip, only))

    async def delivered(self, effect: Effect) -> None:
        await self._ask(f"delivered {effect.event_id}", lambda: self._table.delivered((effect.event_id, effect.number)))

    async def failed(self, effect: Effect, why: str, *, wait: float, counts: bool) -> None:
        place, until = (effect.event_id, effect.number), effect.taken_until
        failed = f"failed {effect.event_id}"
        await self._ask(failed, lambda: self._table.failed(place, self._token, until, wait, counts))

    async def buried(self, effect: Effect, letter_id: str, why: str) -> None:
        raise AssertionError("there are more attempts than the receiver refuses")

    async def revive(self, event_id: str, number: int, *, lease: float) -> Effect | str:
        raise AssertionError("there is no letter of an effect")

    async def waiting(self) -> tuple[int, float]:
        return 0, 0.0

    async def _ask(self, what: str, apply: Callable[[], Any]) -> Any:
        return await self._session.ask(what, apply)


class SimulatedReceiver:
    """``Channel`` of one process."""

    def __init__(self, scene: "Scene", process: "Start") -> None:
        self._scene = scene
        self._process = process

    async def send(self, effect: Effect) -> DeliveryOutcome:
        """Deliver one effect."""
        law, world = self._scene.law, self._scene.world
        call = law.effect_sent(effect.key)
        chance = random.Random(f"{self._scene.plan.seed} {effect.key} {call}")
        await asyncio.sleep(chance.choice(ARRIVES))
        world.note(self._process.name, f"EFFECT of {effect.event_id}, call {call}")
        began = law.effect_arrives(self._process, effect)
        try:
            await asyncio.sleep(chance.choice(ARRIVES))
            if call <= 3 and chance.random() < 0.2:
                return DeliveryOutcome("again", "HTTP 500", "HTTP 500")
            law.effect_accepted(effect.key)
            await asyncio.sleep(chance.choice(ARRIVES))
        finally:
            law.effect_ends(effect.key, began)
        if call <= 3 and chance.random() < 0.2:
            return DeliveryOutcome("again", "closed", "closed")
        return DELIVERED
