"""How much a run measures. Pure."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

Only: TypeAlias = Literal["", "keys", "rivals", "soak"]
"""The part that is measured alone, if any."""


@dataclass(frozen=True, slots=True)
class Extent:
    """The amount of each measurement."""

    events: int = 40_000
    rounds: int = 3
    listeners: int = 2
    handlers: tuple[str, ...] = ("none", "plain", "transaction")
    full: bool = False
    only: Only = ""
    quick: bool = False
    soak_minutes: float = 0.0
    soak_rate: int = 3_000

    @property
    def rounds_of_listeners(self) -> int:
        """More rounds, because one and two listeners differ less than rounds do."""
        return self.rounds if self.quick else self.rounds + 2

    @property
    def latency_seconds(self) -> float:
        """Duration of each rate."""
        return 1.0 if self.quick else 2.0

    @property
    def rounds_of_latency(self) -> int:
        """More rounds, because they are short: one stall of the machine affects a hundredth of a round's events."""
        return self.rounds if self.quick else 2 * self.rounds + 1
