"""The exports that the environment asks OpenTelemetry for. Pure; imports nothing of it."""

import os
from collections.abc import Mapping
from typing import NamedTuple

OTLP = "OTEL_EXPORTER_OTLP"
HTTP = "http/protobuf"


class Wanted(NamedTuple):
    """Which signals are exported. ``why_not``: why one that is asked for cannot be; empty if all can."""

    traces: bool
    metrics: bool
    why_not: str = ""

    @property
    def anything(self) -> bool:
        """Whether a signal is exported."""
        return self.traces or self.metrics


def wanted(environment: Mapping[str, str] = os.environ) -> Wanted:
    """Return what to export: a signal whose exporter is ``otlp``, or has an endpoint and no exporter is named."""
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return Wanted(traces=False, metrics=False)
    found = {}
    refused = []
    for signal in ("TRACES", "METRICS"):
        endpoint = environment.get(f"{OTLP}_{signal}_ENDPOINT") or environment.get(f"{OTLP}_ENDPOINT")
        exporter = environment.get(f"OTEL_{signal}_EXPORTER") or ("otlp" if endpoint else "none")
        protocol = environment.get(f"{OTLP}_{signal}_PROTOCOL") or environment.get(f"{OTLP}_PROTOCOL") or HTTP
        found[signal] = exporter == "otlp" and protocol == HTTP
        if exporter not in ("otlp", "none"):
            refused.append(f"OTEL_{signal}_EXPORTER={exporter}: only otlp and none are known")
        elif exporter == "otlp" and protocol != HTTP:
            refused.append(f"{signal.lower()} by {protocol}: only {HTTP} is known ({OTLP}_PROTOCOL)")
    return Wanted(found["TRACES"], found["METRICS"], "; ".join(refused))


def service_name(default: str, environment: Mapping[str, str] = os.environ) -> Mapping[str, str]:
    """Return the resource's attribute for the service, unless the environment names it."""
    named = environment.get("OTEL_SERVICE_NAME") or "service.name=" in environment.get("OTEL_RESOURCE_ATTRIBUTES", "")
    return {} if named else {"service.name": default}
