"""Where effects are kept until they are delivered, and how they are delivered."""

from collections.abc import Sequence
from typing import Protocol

from unlost.listener.core.effects import DeliveryOutcome, Effect, NewEffect
from unlost.listener.core.event import Event
from unlost.listener.ports.rows import HandlerConnection


class EffectRows(Protocol):
    """The effects of a group. A failed call raises ``Transient``, or ``Permanent`` if it can never succeed."""

    async def record(self, connection: HandlerConnection, event: Event, effects: Sequence[NewEffect]) -> None:
        """Write the effects of an event in the transaction of its row."""
        ...

    async def take(self, most: int, *, lease: float, skip: Sequence[str], only: str | None = None) -> list[Effect]:
        """Take effects that are ready, for ``lease`` seconds. ``skip``: hosts to leave out; ``only``: just this one."""
        ...

    async def delivered(self, effect: Effect) -> None:
        """Record that an effect was delivered, whoever holds it by now."""
        ...

    async def failed(self, effect: Effect, why: str, *, wait: float, counts: bool) -> None:
        """Give an effect back, to be taken again after ``wait`` seconds. ``counts``: the attempt counts."""
        ...

    async def buried(self, effect: Effect, letter_id: str, why: str) -> None:
        """Record that an effect became a dead letter, which is on disk."""
        ...

    async def revive(self, event_id: str, number: int, *, lease: float) -> Effect | str:
        """Take the effect of a letter for a replay, or return its state: ``delivered``, ``taken`` or ``gone``."""
        ...

    async def waiting(self) -> tuple[int, float]:
        """Return how many effects wait, counted up to a limit, and the age of the oldest in seconds."""
        ...


class Channel(Protocol):
    """Delivers effects. Nothing that a receiver does raises."""

    async def send(self, effect: Effect) -> DeliveryOutcome:
        """Deliver one effect, once, within a time limit."""
        ...
