"""A span for each event that the journal accepts, below that of its publisher."""

import time
from collections.abc import Callable, Iterable

import structlog
from opentelemetry.trace import SpanKind
from opentelemetry.trace.propagation import get_current_span

from unlost.ops.kit.telemetry.otel.context import parent_in, trace_id_of
from unlost.ops.kit.telemetry.otel.export import Telemetry
from unlost.producer.journal.port import Entry

ALWAYS = {
    "messaging.system": "unlost", "messaging.operation.type": "send", "messaging.operation.name": "publish",
    "messaging.destination.name": "journal",
}  # fmt: skip


class PublishTraces:
    """Measures each commit, and records what it wrote."""

    def __init__(self, telemetry: Telemetry, clock: Callable[[], int] = time.time_ns) -> None:
        assert telemetry.provider is not None
        self._tracer = telemetry.provider.get_tracer("unlost")
        self._ids = telemetry.ids
        self._clock = clock
        self._seconds = 0.0

    def committed(self, seconds: float) -> None:
        """Remember how long the commit took."""
        self._seconds = seconds

    def placed(self, entries: Iterable[Entry]) -> None:
        """Make the spans of the commit."""
        try:
            self._make_spans(entries)
        except Exception:  # noqa: BLE001  the library's border: the commit must be answered
            structlog.get_logger().warning("trace_failed", exc_info=True)

    def _make_spans(self, entries: Iterable[Entry]) -> None:
        now = self._clock()
        for entry in entries:
            parent = parent_in(entry.body)
            if not get_current_span(parent).get_span_context().is_valid:
                self._ids.trace_id = trace_id_of(entry.event_id)
            attributes = {**ALWAYS, "messaging.message.id": entry.event_id}
            span = self._tracer.start_span(
                "publish journal", parent, SpanKind.PRODUCER, attributes, start_time=now - int(self._seconds * 1e9)
            )
            self._ids.trace_id = 0
            span.end(now)
