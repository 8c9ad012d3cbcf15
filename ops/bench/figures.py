"""Figures: what was measured, the ratios that count, and the bars that they are held against. Pure."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass


@dataclass(frozen=True, slots=True)
class Measured:
    """So many events in so many seconds, at the cost of so much processor time over all processes."""

    events: int
    seconds: float
    processor: float = 0.0

    @property
    def rate(self) -> float:
        """Events a second."""
        return self.events / self.seconds

    @property
    def cost(self) -> float:
        """Processor microseconds an event."""
        return self.processor / self.events * 1e6


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds."""

    p50: float
    p99: float
    p999: float


@dataclass(frozen=True, slots=True)
class Bar:
    """A ratio, and what it must reach, or must not exceed.

    ``noise``: by what factor the figure of one short round may miss its bar on a machine that does other work too.
    """

    about: str
    limit: float
    at_most: bool = False
    noise: float = 3.0

    def met(self, value: float, *, noisy: bool = False) -> bool:
        """Whether the figure is good enough; where it is ``noisy``, whether noise may explain that it is not."""
        allowed = self.noise if noisy else 1.0
        return value <= self.limit * allowed if self.at_most else value >= self.limit / allowed


BARS: Mapping[str, Bar] = {
    "sequential": Bar("pipeline : the loop that handles one event after another", 20),
    "concurrent": Bar("pipeline : the same loop, concurrent, with pools", 5),
    "limit": Bar("pipeline : what the machine could do, by the stages' processor time", 0.7, noise=5),
    "two_listeners": Bar("two listeners, half duplicates each : one listener", 0.9),
    "latency": Bar("p99 at 1,000/s : hop + round trip + commit", 3, at_most=True, noise=30),
    "large_table": Bar("10 million rows : empty table", 0.8),
    "redis_bytes": Bar("Redis bytes per settled event", 120, at_most=True, noise=1),
    "memory_mb": Bar("MB of a listener while PostgreSQL is away", 200, at_most=True, noise=1),
    "batch_publish": Bar("batch publish : journal alone", 0.6),
    "transaction": Bar("transaction handler : the same by hand", 0.8),
}


def percentiles(values: Sequence[float]) -> Latency:
    """Of seconds, in milliseconds."""
    ordered = sorted(values)

    def at(share: float) -> float:
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000

    return Latency(at(0.5), at(0.99), at(0.999))


def median_of(rounds: Sequence[Latency]) -> Latency:
    """The median of each figure, so that one bad moment of the machine does not decide."""
    return Latency(*(statistics.median(one) for one in zip(*map(astuple, rounds), strict=True)))


def median_by_rate(rounds: Sequence[Measured]) -> Measured:
    """The round in the middle."""
    return sorted(rounds, key=lambda one: one.rate)[len(rounds) // 2]


def spread(rounds: Sequence[Measured]) -> float:
    """How far the rounds lie apart, as a share of their median."""
    rates = [one.rate for one in rounds]
    return (max(rates) - min(rates)) / statistics.median(rates)


def work_conserving_limit(stages: Mapping[str, Measured], cores: int, needed: Sequence[str]) -> float:
    """Events a second if all cores did nothing but these stages' work."""
    return cores * 1e6 / sum(stages[name].cost for name in needed)


def better(name: str, one: float, other: float) -> float:
    """Of two values of this ratio, the one that is nearer to its bar or farther beyond it."""
    return min(one, other) if BARS[name].at_most else max(one, other)


def missed_bars(ratios: Mapping[str, float], *, noisy: bool = False) -> list[str]:
    """The names of the ratios that miss their bars."""
    return [name for name, value in ratios.items() if not BARS[name].met(value, noisy=noisy)]
