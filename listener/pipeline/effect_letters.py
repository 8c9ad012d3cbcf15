"""Writes the dead letter of an effect. Its event is a row, so the letter has a claim of its own."""

import sys

import msgspec

from unlost.listener.core.cause import DeadLetterCause
from unlost.listener.core.clocks import Clocks
from unlost.listener.core.effects import DeliveryOutcome, Effect
from unlost.listener.core.errors import Failure
from unlost.listener.core.event import Event, parse
from unlost.listener.core.in_flight import InFlight, effect_claim
from unlost.listener.ports.dead_letters import DeadLetters
from unlost.listener.ports.rows import Rows

CAUSE = DeadLetterCause("effect", "effect")


class EffectLetters:
    """Writes letters to the sink."""

    def __init__(self, sink: DeadLetters, store: Rows, clocks: Clocks) -> None:
        self._sink = sink
        self._store = store
        self._clocks = clocks

    async def write(self, effect: Effect, outcome: DeliveryOutcome) -> str:
        """Write one, durable on return; return its id. Raises ``Transient`` if that is not possible now."""
        event = event_of(effect.event_id, await self._store.one(effect.event_id))
        now = self._clocks.now()
        flight = InFlight(event, effect_claim(event, effect.number), None, now, self._clocks.monotonic())
        flight.effect, flight.cause = effect.number, CAUSE
        flight.attempts.append(delivery_failure(effect, outcome, now))
        (burial,) = await self._sink.bury([flight])
        return burial.letter_id


def delivery_failure(effect: Effect, outcome: DeliveryOutcome, at: float) -> Failure:
    """Describe the last attempt of an effect, for its letter. The path of a webhook is a secret: the host is enough."""
    where = effect.host if effect.url else "the producer"
    why = f"effect {effect.number}, {effect.kind} to {where}, attempt {effect.attempts + 1}: {outcome.why}"
    kind = "EffectRefused" if outcome.what == "never" else "EffectFailed"
    return Failure(at, "effect", "permanent" if outcome.what == "never" else "transient", kind, why)


def event_of(event_id: str, row: "dict[str, object] | None") -> Event:
    """Return the event of a row; only its id if the row was pruned."""
    known = row or {}
    other = known.get("other")
    whole = {
        "event_id": event_id,
        "type": known.get("type"),
        "payload": known.get("payload"),
        **(other if isinstance(other, dict) else {}),
    }
    return parse(msgspec.json.encode(whole), max_bytes=sys.maxsize)
