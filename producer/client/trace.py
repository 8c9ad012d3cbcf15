"""The caller's trace, as fields of an event: ``traceparent`` and, if there is one, ``tracestate``."""

from collections.abc import Callable, Mapping

Fields = Callable[[], Mapping[str, str]]


def nothing() -> Mapping[str, str]:
    """Return no field: events are published as they are."""
    return {}


def current_trace() -> Fields:
    """Return a function that names the current span. Raises ``ImportError`` if OpenTelemetry is not installed."""
    try:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
    except ImportError as error:
        raise ImportError('trace=True needs the package opentelemetry-api: pip install "unlost[otel]"') from error
    inject = TraceContextTextMapPropagator().inject

    def fields() -> Mapping[str, str]:
        carrier: dict[str, str] = {}
        inject(carrier)
        return carrier

    return fields
