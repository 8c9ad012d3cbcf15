"""Where Unlost wants to be. A goal that is not reached is shown as missed, and fails nothing: bars do that. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from unlost.ops.bench.results import Findings

Lookup: TypeAlias = Callable[[Findings], float | None]


@dataclass(frozen=True, slots=True)
class Goal:
    """A figure, and what it should become."""

    about: str
    limit: float
    found: Lookup
    at_most: bool = False

    def met(self, value: float) -> bool:
        """Whether a value reaches the goal."""
        return value <= self.limit if self.at_most else value >= self.limit


def _rate(name: str) -> Lookup:
    return lambda found: found.rates[name].rate if name in found.rates else None


def _cost(name: str) -> Lookup:
    return lambda found: found.rates[name].whole_cost if name in found.rates else None


def _ratio(name: str) -> Lookup:
    return lambda found: found.ratios.get(name)


GOALS: Sequence[Goal] = (
    Goal("pipeline, one listener, events/s", 120_000, _rate("pipeline")),
    Goal("the same, processor µs of all processes per event", 15, _cost("pipeline"), at_most=True),
    Goal("pipeline : NATS push queue + unnest by hand", 1.2, _ratio("by_hand")),
    Goal("16 listeners, events/s", 65_000, _rate("16 listeners")),
    Goal("plain handler 0 ms, 16 at once, events/s", 30_000, _rate("handler, plain 0 ms")),
    Goal("transaction handler : the same by hand, 16 at once", 1.0, _ratio("transaction")),
    Goal("the same, 64 at once", 1.0, _ratio("transaction_64")),
    Goal("healthy events beside 5 % that fail : without them", 0.9, _ratio("failing")),
    Goal("p99 at 1,000/s, one listener : COPY of the stream", 2, _ratio("copy_p99"), at_most=True),
    Goal("the same, two listeners", 2, _ratio("copy_p99_two"), at_most=True),
    Goal("Redis bytes per settled event, with a handler", 40, _ratio("redis_bytes_handled"), at_most=True),
    Goal("replay with a handler, letters/s", 15_000, _rate("replay, handler 0 ms")),
    Goal("two listeners without Redis, events/s", 50_000, _rate("two listeners without Redis")),
    Goal("structured payloads of 4 kB : a bare insert of the same", 0.65, _ratio("size_4k")),
    Goal("structured payloads of 16 kB : a bare insert of the same", 0.65, _ratio("size_16k")),
    Goal("p99 : floor over a soak, last : first third", 1.1, _ratio("soak_p99"), at_most=True),
)


def measured(found: Findings) -> list[tuple[Goal, float]]:
    """Return the goals whose figures this run has measured, each with its figure."""
    values = [(goal, goal.found(found)) for goal in GOALS]
    return [(goal, value) for goal, value in values if value is not None]
