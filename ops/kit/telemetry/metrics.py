"""Metrics: one registry per process, passed as an argument; the library's global registry is not used.

It adds to the library: a histogram that observes a whole batch in one call, a stopwatch, and the event loop's lag.
"""

import asyncio
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.metadata import version
from typing import TypeVar

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
Made = TypeVar("Made", Counter, Gauge)
COUNTS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0)


def new_registry() -> CollectorRegistry:
    """A registry that already has metrics of the version, the process, the platform and the garbage collector."""
    registry = CollectorRegistry(auto_describe=True)
    Gauge("unlost_build_info", "1, with the version that runs", ["version"], registry=registry).labels(
        version("unlost")
    ).set(1)
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


def made(kind: type[Made], registry: CollectorRegistry, name: str, about: str, *labels: str) -> Made:
    """Make a metric of ours in this registry."""
    return kind(f"unlost_{name}", about, labels, registry=registry)


def metrics_route(registry: CollectorRegistry, path: str = "/metrics") -> Route:
    """The route that Prometheus scrapes."""

    async def metrics(request: Request) -> Response:  # noqa: ARG001 - Starlette's signature
        return metrics_response(registry)

    return Route(path, metrics)


def metrics_response(registry: CollectorRegistry) -> Response:
    """All metrics of the registry in Prometheus's text format."""
    return Response(generate_latest(registry), headers={"content-type": CONTENT_TYPE_LATEST})


class BatchHistogram(Collector):
    """A histogram with at most one label, by default in seconds. Each observed value costs one bisection."""

    def __init__(
        self,
        name: str,
        documentation: str,
        registry: CollectorRegistry,
        *,
        buckets: Sequence[float] = SECONDS,
        label: str | None = None,
    ) -> None:
        if list(buckets) != sorted(set(buckets)):
            raise ValueError(f"the buckets of {name} must rise: {buckets}")
        self._name, self._documentation, self._label = name, documentation, label
        self._bounds = tuple(buckets)
        self._counts: dict[str, list[int]] = {}
        self._sums: dict[str, float] = {}
        if label is None:
            self._row("")
        registry.register(self)

    def observe_many(self, values: Iterable[float], label: str = "") -> None:
        """Count each of ``values``."""
        counts, bounds = self._row(label), self._bounds
        total = 0.0
        for value in values:
            counts[bisect_left(bounds, value)] += 1  # a bucket includes its bound (``le``)
            total += value
        self._sums[label] += total

    def observe(self, value: float, label: str = "") -> None:
        """Count one value."""
        self._row(label)[bisect_left(self._bounds, value)] += 1
        self._sums[label] += value

    def describe(self) -> Iterator[HistogramMetricFamily]:
        """Name the metric, so that registering it twice is refused."""
        yield HistogramMetricFamily(self._name, self._documentation)

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """The metric with cumulative buckets, as Prometheus requires."""
        family = HistogramMetricFamily(
            self._name, self._documentation, labels=() if self._label is None else (self._label,)
        )
        for label, counts in self._counts.items():
            cumulated, below = [], 0
            for bound, count in zip((*map(str, self._bounds), "+Inf"), counts, strict=True):
                below += count
                cumulated.append((bound, below))
            family.add_metric(() if self._label is None else (label,), cumulated, self._sums[label])
        yield family

    def _row(self, label: str) -> list[int]:
        row = self._counts.get(label)
        if row is None:
            row = self._counts[label] = [0] * (len(self._bounds) + 1)
            self._sums[label] = 0.0
        return row


class Stopwatch(Collector):
    """Counts the seconds in which a condition holds, including the current period."""

    def __init__(
        self, name: str, documentation: str, registry: CollectorRegistry, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._name, self._documentation, self._clock = name, documentation, clock
        self._before = 0.0
        self._since: float | None = None
        registry.register(self)

    def turn(self, on: bool) -> None:
        """The condition holds from now on, or no longer. Repeating the same value has no effect."""
        self._before = self.seconds
        self._since = self._clock() if on else None

    @property
    def seconds(self) -> float:
        """All seconds until now."""
        return self._before + (0.0 if self._since is None else self._clock() - self._since)

    def describe(self) -> Iterator[CounterMetricFamily]:
        """Name the metric, so that registering it twice is refused."""
        yield CounterMetricFamily(self._name, self._documentation)

    def collect(self) -> Iterator[CounterMetricFamily]:
        """The one sample."""
        yield CounterMetricFamily(self._name, self._documentation, value=self.seconds)


class LoopLag:
    """Measures how late the event loop turns. ``run()`` is a task; ``age()`` is the time since the last turn."""

    def __init__(self, registry: CollectorRegistry, *, every: float = 0.25) -> None:
        self._every = every
        self._turned = time.monotonic()
        self.seconds = 0.0
        gauge = Gauge("unlost_event_loop_lag_seconds", "How late the event loop last turned", registry=registry)
        gauge.set_function(lambda: max(self.seconds, self.age() - self._every))

    def age(self) -> float:
        """Seconds since the loop last turned; safe to call from another thread."""
        return time.monotonic() - self._turned

    async def run(self) -> None:
        """Measure until cancelled."""
        self._turned = time.monotonic()
        while True:
            await asyncio.sleep(self._every)
            now = time.monotonic()
            self.seconds = max(0.0, now - self._turned - self._every)
            self._turned = now
