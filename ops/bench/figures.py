"""Figures: measured values, the ratios that count, and their bars. Pure."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass


@dataclass(frozen=True, slots=True)
class Measured:
    """Events, the seconds that they took, and the processor seconds: of a stage all, of the pipeline the listeners'."""

    events: int
    seconds: float
    processor: float = 0.0
    servers: float = 0.0
    """The processor seconds of the servers, where ``processor`` does not contain them."""

    @property
    def rate(self) -> float:
        """Events a second."""
        return self.events / self.seconds

    @property
    def cost(self) -> float:
        """Processor microseconds per event."""
        return self.processor / self.events * 1e6

    @property
    def whole_cost(self) -> float:
        """Processor microseconds per event of all processes that take part."""
        return (self.processor + self.servers) / self.events * 1e6


@dataclass(frozen=True, slots=True)
class Latencies:
    """Percentiles of latency, in milliseconds."""

    p50: float
    p99: float
    p999: float


@dataclass(frozen=True, slots=True)
class Bar:
    """The limit that a ratio must reach, or must not exceed.

    ``noise``: the factor by which one short round may miss its bar on a machine that does other work too.
    """

    about: str
    limit: float
    at_most: bool = False
    noise: float = 3.0

    def met(self, value: float, *, noisy: bool = False) -> bool:
        """Whether a value meets the bar; if ``noisy``, whether it meets it or noise may be the reason."""
        allowed = self.noise if noisy else 1.0
        return value <= self.limit * allowed if self.at_most else value >= self.limit / allowed


BARS: Mapping[str, Bar] = {
    "sequential": Bar("pipeline : the loop that handles one event after another", 20),
    "concurrent": Bar("pipeline : the same loop, concurrent, with pools", 5),
    "by_hand": Bar("pipeline : NATS push queue + unnest by hand", 0.5),
    "limit": Bar("pipeline : what the machine could do, by the stages' processor time", 0.7, noise=5),
    "two_listeners": Bar("two listeners, half duplicates each : one listener", 0.9),
    "latency": Bar("p99 at 1,000/s : hop + round trip + commit", 3, at_most=True, noise=30),
    "large_table": Bar("10 million rows : empty table", 0.8),
    "copy_p99": Bar("p99 at 1,000/s, one listener : COPY of our stream", 4, at_most=True),
    "copy_p99_two": Bar("the same, two listeners", 6, at_most=True),
    "redis_bytes": Bar("Redis bytes per settled event", 120, at_most=True, noise=1),
    "redis_bytes_handled": Bar("the same, with a handler", 160, at_most=True, noise=1),
    "memory_mb": Bar("MB of a listener while PostgreSQL is away", 200, at_most=True, noise=1),
    "memory_mb_handled": Bar("the same, with a handler", 200, at_most=True, noise=1),
    "batch_publish": Bar("batch publish : journal alone", 0.6),
    "token": Bar("publish with a token : publish without", 0.95),
    "proven": Bar("processor time of claims and settling with REDIS_SECRET : without", 1.2, at_most=True),
    "failing": Bar("healthy events beside 5 % that fail : without them", 0.9),
    "failing_p99": Bar("p99 of healthy events beside 5 % that fail : without them", 2, at_most=True, noise=30),
    "failing_5_ms": Bar("the same : without them, handler of 5 ms, 64 at once", 0.9),
    "failing_transaction": Bar("the same : without them, transaction handler", 0.9),
    "failing_typed": Bar("the same : without them, typed route", 0.9),
    "failing_thread": Bar("the same : without them, function in a thread", 0.9),
    "transaction": Bar("transaction handler : the same by hand, 16 at once", 0.8),
    "transaction_64": Bar("the same, 64 at once", 0.8),
    "typed_us": Bar("processor µs that a typed route takes more than a plain function", 5, at_most=True),
    "slow_handlers": Bar("50 ms handlers, 256 at once : the ideal rate", 0.95),
    "many_transactions": Bar("transactions, 64 at once : 16 at once", 1.0),
    "even_keys_rows": Bar("rows in order of 10,000 keys : without order", 0.6),
    "hot_key_rows": Bar("rows in order of one key : one connection in a row", 0.7),
    "even_keys_transactions": Bar("transactions in order of 10,000 keys : without order", 0.6),
    "hot_key_transactions": Bar("transactions in order of one key : one connection in a row", 0.7),
    "ordered_latency": Bar("p99 at 1,000/s in order of 997 keys : without order", 2, at_most=True),
    "keys_memory": Bar("MB after up to 1,000,000 distinct keys : after up to 500,000", 1.15, at_most=True, noise=1),
    "many_listeners": Bar("16 listeners : one", 0.3),
    "many_listeners_handled": Bar("the same, handler 0 ms", 0.3),
    "without_redis": Bar("two listeners without Redis : with it", 0.1),
    "without_redis_handled": Bar("the same, handler 0 ms", 0.1),
    "size_4k": Bar("structured payloads of 4 kB : a bare insert of the same", 0.4),
    "size_4k_handled": Bar("the same, handler 0 ms", 0.2),
    "size_16k": Bar("structured payloads of 16 kB : a bare insert of the same", 0.4),
    "size_16k_handled": Bar("the same, handler 0 ms", 0.4),
    "replay": Bar("letters that a replay stores : live events, both with a handler of 0 ms", 0.05),
    "soak_p99": Bar("p99 : floor over a soak, last : first third", 1.1, at_most=True, noise=100),
    "thread_us": Bar("processor µs of a listener for a handler in a thread", 60, at_most=True),
}


def percentiles(values: Sequence[float]) -> Latencies:
    """The percentiles of values in seconds, as milliseconds."""
    ordered = sorted(values)

    def at(share: float) -> float:
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000

    return Latencies(at(0.5), at(0.99), at(0.999))


def median_of(rounds: Sequence[Latencies]) -> Latencies:
    """The median of each percentile, so that one bad moment of the machine does not decide."""
    return Latencies(*(statistics.median(one) for one in zip(*map(astuple, rounds), strict=True)))


def median_by_rate(rounds: Sequence[Measured]) -> Measured:
    """The round with the median rate."""
    return sorted(rounds, key=lambda one: one.rate)[len(rounds) // 2]


def spread(rounds: Sequence[Measured]) -> float:
    """The range of the rounds' rates, as a share of their median."""
    rates = [one.rate for one in rounds]
    return (max(rates) - min(rates)) / statistics.median(rates)


def work_conserving_limit(stages: Mapping[str, Measured], cores: int, needed: Sequence[str]) -> float:
    """Events a second if all cores did only the work of these stages."""
    return cores * 1e6 / sum(stages[name].cost for name in needed)


def better(name: str, one: float, other: float) -> float:
    """The better of two values of this ratio."""
    return min(one, other) if BARS[name].at_most else max(one, other)


def missed_bars(ratios: Mapping[str, float], *, noisy: bool = False) -> list[str]:
    """The names of the ratios that miss their bars."""
    return [name for name, value in ratios.items() if not BARS[name].met(value, noisy=noisy)]
