"""What was measured, by name: each result is printed when it is known, and ratios follow from all of them."""

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from operator import truediv
from typing import Any

from unlost.ops.bench import machine
from unlost.ops.bench.figures import Latencies, Measured, median_by_rate, median_of, spread

BY_HAND = "queue + unnest by hand"
PROMISES = {
    "pipeline": "all: one row or one letter for each event, takeover, dedup, replay",
    "two listeners": "the same, by two",
    BY_HAND: "the primary key, and redelivery after 30 s; the queue may lose what it accepted in the last 2 minutes",
    f"{BY_HAND}, synced": "the primary key, and redelivery after 30 s",
    "loop, sequential": "a lock, the primary key",
    "loop, concurrent": "a lock, the primary key",
}
"""The guarantees of each, besides its rate."""
Say = Callable[[str], None]


@dataclass(slots=True)
class Findings:
    """All measured values, by name."""

    rates: dict[str, Measured] = field(default_factory=dict)
    spreads: dict[str, float] = field(default_factory=dict)
    latencies: dict[str, Latencies] = field(default_factory=dict)
    amounts: dict[str, float] = field(default_factory=dict)
    ratios: dict[str, float] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The values as JSON."""
        return {
            "machine": machine.described(),
            "stages_and_pipeline": {
                name: {"events": one.events, "seconds": one.seconds, "per_second": one.rate, "cpu_us": one.cost}
                for name, one in self.rates.items()
            },
            "spread": self.spreads,
            "latency_ms": {
                name: {"p50": one.p50, "p99": one.p99, "p99.9": one.p999} for name, one in self.latencies.items()
            },
            "amounts": self.amounts,
            "ratios": self.ratios,
        }


class Results:
    """Keeps results, and prints each."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self.found = Findings()
        self.compared: dict[str, float] = {}
        """Ratios of values that were measured in turn."""

    def keep(self, name: str, rounds: list[Measured]) -> None:
        """Keep the round in the middle."""
        self.found.rates[name] = middle = median_by_rate(rounds)
        self.found.spreads[name] = spread(rounds)
        cost = f"{middle.cost:>10.1f} µs" if middle.processor else ""
        promise = f"  {PROMISES[name]}" if name in PROMISES else ""
        self._say(f"{name:<32}{middle.rate:>12,.0f}/s{cost}{promise}")

    def keep_amount(self, name: str, found: float) -> None:
        """Keep a single figure."""
        self.found.amounts[name] = found
        self._say(f"{name:<44}{found:>10,.1f}")

    def keep_latency(self, name: str, rounds: list[Latencies]) -> None:
        """Keep the medians of the rounds."""
        self.found.latencies[name] = found = median_of(rounds)
        self._say(f"{name:<32}{found.p50:>8.1f}{found.p99:>8.1f}{found.p999:>8.1f} ms")

    def compare(self, name: str, ours: Sequence[float], with_what: Iterable[float]) -> None:
        """Compare values round by round; the median of the ratios counts."""
        self.compared[name] = statistics.median(map(truediv, ours, with_what))

    def ratios(self) -> dict[str, float]:
        """Return all ratios that follow from what was kept."""
        rate = {name: one.rate for name, one in self.found.rates.items()}
        ratios: dict[str, float] = {}
        ratios["sequential"] = rate["pipeline"] / rate["loop, sequential"]
        ratios["concurrent"] = rate["pipeline"] / rate["loop, concurrent"]
        ratios |= self.compared
        if "10 million rows" in rate:
            ratios["large_table"] = rate["10 million rows"] / rate["empty table"]
        for name in ("redis_bytes", "memory_mb"):
            if name in self.found.amounts:
                ratios[name] = self.found.amounts[name]
        return ratios
