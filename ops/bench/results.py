"""Measured figures by name: each result is printed when it is known, and ratios follow from all of them."""

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import truediv
from typing import Any

from unlost.ops.bench import machine
from unlost.ops.bench.comparison import PROMISES, Taken
from unlost.ops.bench.figures import Latencies, Measured, median_by_rate, median_of, spread
from unlost.ops.bench.soak import Soak

BY_HAND = "queue + unnest by hand"
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Compared:
    """One line of the comparison: rate and cost of a backlog, latency at an even rate, and what is promised."""

    backlog: Measured
    seen: Latencies
    promises: str


@dataclass(slots=True)
class Findings:
    """All measured values, by name."""

    rates: dict[str, Measured] = field(default_factory=dict)
    spreads: dict[str, float] = field(default_factory=dict)
    latencies: dict[str, Latencies] = field(default_factory=dict)
    amounts: dict[str, float] = field(default_factory=dict)
    ratios: dict[str, float] = field(default_factory=dict)
    comparison: dict[str, Compared] = field(default_factory=dict)
    soak: Soak | None = None

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
            "comparison": {
                name: {
                    "per_second": one.backlog.rate,
                    "cpu_us": one.backlog.whole_cost,
                    "p50": one.seen.p50,
                    "p99": one.seen.p99,
                    "promises": one.promises,
                }
                for name, one in self.comparison.items()
            },
            "soak": self.soak and self.soak.as_json(),
        }


class Results:
    """Keeps results, and prints each."""

    def __init__(self, say: Say) -> None:
        self.say = say
        self.found = Findings()
        self.compared: dict[str, float] = {}
        """Ratios of values that were measured in turn."""

    def keep(self, name: str, rounds: list[Measured]) -> None:
        """Keep the round in the middle."""
        self.found.rates[name] = middle = median_by_rate(rounds)
        self.found.spreads[name] = spread(rounds)
        cost = f"{middle.cost:>10.1f} µs" if middle.processor else ""
        self.say(f"{name:<32}{middle.rate:>12,.0f}/s{cost}")

    def keep_amount(self, name: str, found: float) -> None:
        """Keep a single figure."""
        self.found.amounts[name] = found
        self.say(f"{name:<44}{found:>10,.1f}")

    def keep_latency(self, name: str, rounds: list[Latencies]) -> None:
        """Keep the medians of the rounds."""
        self.found.latencies[name] = found = median_of(rounds)
        self.say(f"{name:<32}{found.p50:>8.1f}{found.p99:>8.1f}{found.p999:>8.1f} ms")

    def keep_comparison(self, taken: Mapping[str, Taken]) -> None:
        """Keep the medians of everybody that was measured in turn."""
        for name, one in taken.items():
            found = Compared(median_by_rate(one.backlog), median_of(one.seen), PROMISES[name])
            self.found.comparison[name] = found
            self.say(
                f"{name:<36}{found.backlog.rate:>12,.0f}/s{found.backlog.whole_cost:>10.1f} µs"
                f"{found.seen.p50:>8.1f}{found.seen.p99:>8.1f} ms"
            )

    def compare(self, name: str, ours: Sequence[float], with_what: Iterable[float]) -> None:
        """Compare values round by round; the median of the ratios counts."""
        self.compared[name] = statistics.median(map(truediv, ours, with_what))

    def ratios(self) -> dict[str, float]:
        """Return all ratios that follow from what was kept."""
        rate = {name: one.rate for name, one in self.found.rates.items()}
        ratios: dict[str, float] = {}
        for name in ("sequential", "concurrent"):
            if f"loop, {name}" in rate:
                ratios[name] = rate["pipeline"] / rate[f"loop, {name}"]
        ratios |= self.compared
        if "10 million rows" in rate:
            ratios["large_table"] = rate["10 million rows"] / rate["empty table"]
        for name in ("redis_bytes", "redis_bytes_handled", "memory_mb", "memory_mb_handled"):
            if name in self.found.amounts:
                ratios[name] = self.found.amounts[name]
        return ratios
