"""Stand-ins for the table of effects."""

from collections.abc import Sequence

from unlost.listener.core.effects import DELIVERED, Answer, Effect, NewEffect


class NoEffects:
    """``EffectRows`` and ``Channel`` where no handler records any effect."""

    async def record(self, connection: object, event_id: str, effects: Sequence[NewEffect]) -> None:
        raise AssertionError(event_id)

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

    async def send(self, effect: Effect) -> Answer:
        return DELIVERED
