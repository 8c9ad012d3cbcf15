"""Stand-ins for the table of effects, and for the letters of those that cannot be delivered."""

from collections.abc import Sequence
from typing import Any

from unlost.listener.core.effects import DELIVERED, DeliveryOutcome, Effect, NewEffect
from unlost.listener.core.errors import Transient
from unlost.listener.core.event import Event


class NoEffects:
    """``EffectRows`` and ``Channel`` where no handler records any effect."""

    async def record(self, connection: object, event: Event, effects: Sequence[NewEffect]) -> None:
        raise AssertionError(event.event_id)

    async def take(self, most: int, *, lease: float, skip: Sequence[str], only: str | None = None) -> list[Effect]:
        return []

    async def delivered(self, effect: Effect) -> None:
        raise AssertionError(effect)

    async def failed(self, effect: Effect, why: str, *, wait: float, counts: bool) -> None:
        raise AssertionError(effect)

    async def buried(self, effect: Effect, letter_id: str, why: str) -> None:
        raise AssertionError(effect)

    async def revive(self, event_id: str, number: int, *, lease: float) -> Effect | str:
        return "gone"

    async def waiting(self) -> tuple[int, float]:
        return 0, 0.0

    async def send(self, effect: Effect) -> DeliveryOutcome:
        return DELIVERED


class EffectsInMemory:
    """Effects in memory. ``away``: so many calls that record an outcome fail first."""

    def __init__(self, *effects: Effect, away: int = 0) -> None:
        self.ready = list(effects)
        self.outcomes: list[tuple[Any, ...]] = []
        self.skipped: list[Sequence[str]] = []
        self._away = away

    async def take(self, most: int, *, lease: float, skip: Sequence[str], only: str | None = None) -> list[Effect]:
        self.skipped.append(skip)
        taken = [one for one in self.ready if one.host not in skip and only in (None, one.host)][:most]
        self.ready = [one for one in self.ready if one not in taken]
        return taken

    async def waiting(self) -> tuple[int, float]:
        return len(self.ready), 7.0

    async def delivered(self, effect: Effect) -> None:
        self._record("delivered", effect.event_id)

    async def failed(self, effect: Effect, why: str, *, wait: float, counts: bool) -> None:
        self._record("failed", effect.event_id, why, counts)

    async def buried(self, effect: Effect, letter_id: str, why: str) -> None:
        self._record("buried", effect.event_id, letter_id)

    def _record(self, *outcome: Any) -> None:
        if self._away:
            self._away -= 1
            raise Transient("PostgreSQL is away")
        self.outcomes.append(outcome)


class EffectLettersInMemory:
    """Names letters, or fails with this error."""

    def __init__(self, error: str = "") -> None:
        self._error = error

    async def write(self, effect: Effect, outcome: DeliveryOutcome) -> str:
        if self._error:
            raise Transient(self._error)
        return f"letter of {effect.event_id}"
