"""The last audit as metrics, for alerts: when it was, and what it found wrong."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from unlost.listener.store.postgres.audits import LastAudit
from unlost.ops.audit.account import WRONG


class Audits(Collector):
    """The last audit that is known. While PostgreSQL is away, it stays as it was."""

    def __init__(self, registry: CollectorRegistry, *, since: float) -> None:
        """``since``: the time that stands for the last audit as long as none is known."""
        self._last: LastAudit | None = None
        self._since = since
        registry.register(self)

    def note(self, audit: LastAudit | None) -> None:
        """Store what PostgreSQL answered."""
        self._last = audit or self._last

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Name the metrics, so that registering them twice is refused."""
        yield from self._families()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Return both gauges. Problems are known only after an audit."""
        at, wrong = self._families()
        at.add_metric((), self._last.at if self._last else self._since)
        if self._last is not None:
            for column in WRONG:
                wrong.add_metric((column,), float(self._last.wrong.get(column, 0)))
        yield from (at, wrong)

    @staticmethod
    def _families() -> tuple[GaugeMetricFamily, GaugeMetricFamily]:
        return (
            GaugeMetricFamily(
                "unlost_audit_at_seconds",
                "When the last audit of all events ended, since 1970; the start of the console, if it knows of none",
            ),
            GaugeMetricFamily("unlost_audit_wrong", "What the last audit found wrong", labels=("column",)),
        )
