"""The last audit as metrics, for alerts: when it was, and what it found wrong."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from unlost.listener.store.postgres.audits import LastAudit
from unlost.ops.audit.account import WRONG


class Audits(Collector):
    """The last audit that is known. While PostgreSQL is away, it stays as it was."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._last: LastAudit | None = None
        registry.register(self)

    def note(self, audit: LastAudit | None) -> None:
        """Store what PostgreSQL answered."""
        self._last = audit or self._last

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Name the metrics, so that registering them twice is refused."""
        yield from self._families()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Return both gauges. They have no samples before the first audit."""
        at, wrong = self._families()
        if self._last is not None:
            at.add_metric((), self._last.at)
            for column in WRONG:
                wrong.add_metric((column,), float(self._last.wrong.get(column, 0)))
        yield from (at, wrong)

    @staticmethod
    def _families() -> tuple[GaugeMetricFamily, GaugeMetricFamily]:
        return (
            GaugeMetricFamily("unlost_audit_at_seconds", "When the last audit of all events ended, since 1970"),
            GaugeMetricFamily("unlost_audit_wrong", "What the last audit found wrong", labels=("column",)),
        )
