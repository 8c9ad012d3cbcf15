"""Values from the metrics of one process, and rates between two readings. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

Samples = Mapping[str, tuple[tuple[Mapping[str, str], float], ...]]


@dataclass(frozen=True, slots=True)
class Reading:
    """All samples of a process at one moment. ``at`` is in seconds of any monotonic clock."""

    at: float
    samples: Samples = field(default_factory=dict)

    def total(self, name: str, **labels: str) -> float:
        """The sum of all samples with this name and these labels."""
        return sum(value for worn, value in self.samples.get(name, ()) if labels.items() <= worn.items())


def reading(text: str, at: float) -> Reading:
    """Parse a page of metrics. Raises ``ValueError`` if it is not one."""
    samples: dict[str, list[tuple[Mapping[str, str], float]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            samples.setdefault(sample.name, []).append((sample.labels, sample.value))
    return Reading(at, {name: tuple(found) for name, found in samples.items()})


def rate(before: Reading | None, after: Reading, name: str, **labels: str) -> float:
    """The growth of a counter per second. If it fell, the process has restarted, and the counter grew from 0."""
    if before is None or after.at <= before.at:
        return 0.0
    was, now = before.total(name, **labels), after.total(name, **labels)
    return (now - was if now >= was else now) / (after.at - before.at)


def quantile(before: Reading | None, after: Reading, histogram: str, part: float, **labels: str) -> float | None:
    """The bucket bound at this quantile of the values counted between two readings; None if there were none."""
    then = _buckets(before.samples.get(f"{histogram}_bucket", ()) if before else (), labels)
    now = _buckets(after.samples.get(f"{histogram}_bucket", ()), labels)
    if any(count < then.get(bound, 0.0) for bound, count in now.items()):
        then = {}  # the process has restarted, and its counts began at 0
    grown = [(bound, count - then.get(bound, 0.0)) for bound, count in sorted(now.items())]
    if not grown or not grown[-1][1]:
        return None
    finite = [bound for bound, _ in grown if bound != float("inf")]
    found = next(bound for bound, count in grown if count >= part * grown[-1][1])
    return found if found != float("inf") else finite[-1]


def _buckets(samples: Iterable[tuple[Mapping[str, str], float]], wanted: Mapping[str, str]) -> dict[float, float]:
    counts: dict[float, float] = {}
    for labels, count in samples:
        if not wanted.items() <= labels.items():
            continue
        bound = float(labels["le"])
        counts[bound] = counts.get(bound, 0.0) + count
    return counts
