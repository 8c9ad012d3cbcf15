"""Decides at the start of a process whether anything is exported, and imports OpenTelemetry only then."""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry

from unlost.ops.kit.telemetry.otel.wanted import wanted

if TYPE_CHECKING:
    from unlost.ops.kit.telemetry.otel.export import Telemetry

MISSING = 'its libraries are missing: pip install "unlost[otel]"'


def telemetry_of(
    service: str,
    attributes: Mapping[str, str],
    registry: CollectorRegistry,
    log: Any,
    environment: Mapping[str, str] = os.environ,
) -> "Telemetry | None":
    """Return what this process exports, or None. A wish that cannot be fulfilled is logged: it never ends a process."""
    wish = wanted(environment)
    if wish.why_not:
        log.warning("opentelemetry_off", why=wish.why_not)
    if not wish.anything:
        return None
    try:
        from unlost.ops.kit.telemetry.otel.export import Telemetry
    except ImportError:
        log.warning("opentelemetry_off", why=MISSING)
        return None
    log.info("opentelemetry_on", traces=wish.traces, metrics=wish.metrics)
    return Telemetry(wish, service=service, attributes=attributes, registry=registry)
