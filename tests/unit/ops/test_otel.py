"""OpenTelemetry: when it is on, what it imports when it is off, and the metrics that it exports."""

import subprocess
import sys

import pytest
import structlog
from opentelemetry.sdk.resources import Resource
from prometheus_client import CollectorRegistry, Counter, Gauge
from structlog.testing import capture_logs

from unlost.ops.kit.telemetry.metrics import BatchHistogram
from unlost.ops.kit.telemetry.otel.metrics import metrics_data
from unlost.ops.kit.telemetry.otel.starting import telemetry_of
from unlost.ops.kit.telemetry.otel.wanted import service_name, wanted

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}


@pytest.mark.parametrize(
    ("environment", "found"),
    [
        ({}, (False, False, "")),
        (ENDPOINT, (True, True, "")),
        (ENDPOINT | {"OTEL_SDK_DISABLED": "true"}, (False, False, "")),
        (ENDPOINT | {"OTEL_METRICS_EXPORTER": "none"}, (True, False, "")),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://h/v1/metrics"}, (False, True, "")),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, (True, False, "")),
        (
            ENDPOINT | {"OTEL_TRACES_EXPORTER": "zipkin"},
            (False, True, "OTEL_TRACES_EXPORTER=zipkin: only otlp and none are known"),
        ),
    ],
)
def test_the_standard_variables_say_what_is_exported(environment: dict[str, str], found: tuple[bool, bool, str]):
    assert wanted(environment) == found


def test_grpc_is_refused_in_words():
    found = wanted(ENDPOINT | {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"})
    assert not found.anything
    assert "only http/protobuf is known (OTEL_EXPORTER_OTLP_PROTOCOL)" in found.why_not


def test_a_service_named_in_the_environment_keeps_its_name():
    assert service_name("x", {}) == {"service.name": "x"}
    assert service_name("x", {"OTEL_SERVICE_NAME": "y"}) == {}
    assert service_name("x", {"OTEL_RESOURCE_ATTRIBUTES": "a=b,service.name=y"}) == {}


def test_when_off_nothing_of_it_is_imported():
    """redis-py imports the metrics of OpenTelemetry by itself, where they are installed."""
    code = (
        "import sys, unlost.listener.app.daemon, unlost.producer.app.daemon\n"
        "ours = 'unlost.ops.kit.telemetry.otel.export', 'unlost.listener.observe.traces'\n"
        "sys.exit(any(name in ours or name.startswith('opentelemetry.exporter') for name in sys.modules))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_without_its_libraries_the_log_says_so_and_the_process_goes_on(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "unlost.ops.kit.telemetry.otel.export", None)
    with capture_logs() as lines:
        assert telemetry_of("s", {}, CollectorRegistry(), structlog.get_logger(), ENDPOINT) is None
    (line,) = lines
    assert (line["event"], line["log_level"]) == ("opentelemetry_off", "warning")
    assert 'pip install "unlost[otel]"' in line["why"]


def test_pushed_metrics_are_those_that_a_scrape_shows():
    registry = CollectorRegistry()
    Counter("runs_total", "Runs", ["route"], registry=registry).labels("mail").inc(3)
    Gauge("room_bytes", "Room", registry=registry).set(7)
    BatchHistogram("time_seconds", "Time", registry, buckets=(0.1, 1.0), label="route").observe_many(
        [0.05, 0.5, 0.6, 9.0], "mail"
    )
    (whole,) = metrics_data(registry, Resource({}), 5).resource_metrics
    found = {one.name: one for one in whole.scope_metrics[0].metrics}
    assert [(point.attributes, point.value) for point in found["runs"].data.data_points] == [({"route": "mail"}, 3.0)]
    assert found["room_bytes"].unit == "By"
    (times,) = found["time_seconds"].data.data_points
    assert (times.bucket_counts, times.explicit_bounds) == ([1, 2, 1], [0.1, 1.0])
    assert (times.count, times.sum, found["time_seconds"].unit) == (4, 10.15, "s")
