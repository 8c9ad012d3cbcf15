"""The registry's metrics in OTLP's form, so that what Prometheus scrapes and what is pushed are the same figures."""

import time
from collections.abc import Iterable, Mapping
from itertools import pairwise

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.samples import Sample

SCOPE = InstrumentationScope("unlost")
STARTED = time.time_ns()
"""Since when counters count: the start of the process."""
Labels = tuple[tuple[str, str], ...]


def metrics_data(registry: CollectorRegistry, resource: Resource, now: int) -> MetricsData:
    """Return all metrics of the registry as they are now. To be called where the registry may be read."""
    metrics = [_metric(family, now) for family in registry.collect() if family.samples]
    scope = ScopeMetrics(scope=SCOPE, metrics=metrics, schema_url="")
    return MetricsData([ResourceMetrics(resource=resource, scope_metrics=[scope], schema_url="")])


def _metric(family: Family, now: int) -> Metric:
    data: Sum | Gauge | Histogram
    if family.type == "counter":
        points = _points([one for one in family.samples if one.name.endswith("_total")], now)
        data = Sum(points, AggregationTemporality.CUMULATIVE, is_monotonic=True)
    elif family.type == "histogram":
        data = Histogram(_histograms(family.samples, now), AggregationTemporality.CUMULATIVE)
    else:
        data = Gauge(_points(family.samples, now))
    unit = "s" if family.name.endswith("_seconds") else "By" if family.name.endswith("_bytes") else ""
    return Metric(family.name, family.documentation, unit, data)


def _points(samples: Iterable[Sample], now: int) -> list[NumberDataPoint]:
    return [NumberDataPoint(dict(one.labels), STARTED, now, float(one.value)) for one in samples]


def _histograms(samples: Iterable[Sample], now: int) -> list[HistogramDataPoint]:
    buckets: dict[Labels, dict[float, float]] = {}
    sums: dict[Labels, float] = {}
    for one in samples:
        labels = _without_bound(one.labels)
        if one.name.endswith("_bucket"):
            buckets.setdefault(labels, {})[float(one.labels["le"])] = one.value
        elif one.name.endswith("_sum"):
            sums[labels] = one.value
    return [_histogram(dict(labels), found, sums.get(labels, 0.0), now) for labels, found in buckets.items()]


def _histogram(labels: dict[str, str], cumulated: Mapping[float, float], total: float, now: int) -> HistogramDataPoint:
    """Prometheus's buckets include all below them, and those of OTLP do not."""
    bounds = sorted(cumulated)
    below = [0.0, *(cumulated[bound] for bound in bounds)]
    counts = [int(after - before) for before, after in pairwise(below)]
    return HistogramDataPoint(
        labels, STARTED, now, sum(counts), total, counts, bounds[:-1], min=float("nan"), max=float("nan")
    )


def _without_bound(labels: Mapping[str, str]) -> Labels:
    return tuple((name, value) for name, value in labels.items() if name != "le")
