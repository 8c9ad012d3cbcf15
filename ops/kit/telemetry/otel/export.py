"""Exporters of one process: spans in batches from a thread of the library, and all metrics at intervals.

A collector that is away, slow or wrong costs spans and a line in the log. It never delays an event or a stop.
"""

import asyncio
import contextlib
import os
import secrets
import threading
import time
from collections.abc import Callable, Mapping

import structlog
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics.export import MetricExportResult
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import IdGenerator
from prometheus_client import CollectorRegistry

from unlost.ops.kit.telemetry.otel.metrics import metrics_data
from unlost.ops.kit.telemetry.otel.wanted import Wanted, service_name

CLOSE_SECONDS = 2.0
"""How long a stop waits for the last spans and metrics to be exported."""
SHORTEST_INTERVAL = 0.1


class GivenIds(IdGenerator):
    """Random ids, unless the next span's are given. Used on one thread."""

    def __init__(self) -> None:
        self.trace_id = self.span_id = 0

    def generate_trace_id(self) -> int:
        """Return the given id, or a random one."""
        given, self.trace_id = self.trace_id, 0
        return given or _random(128)

    def generate_span_id(self) -> int:
        """Return the given id, or a random one."""
        given, self.span_id = self.span_id, 0
        return given or _random(64)


class Telemetry:
    """The exports of a process. ``provider`` is None if no traces are."""

    def __init__(
        self,
        wanted: Wanted,
        *,
        service: str,
        attributes: Mapping[str, str],
        registry: CollectorRegistry,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._registry = registry
        self._clock = clock
        self._resource = Resource.create({**attributes, **service_name(service)})
        self.ids = GivenIds()
        self.provider: TracerProvider | None = None
        if wanted.traces:
            self.provider = TracerProvider(resource=self._resource, id_generator=self.ids, shutdown_on_exit=False)
            self.provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._exporter = OTLPMetricExporter() if wanted.metrics else None
        self._failing = False

    def serve_whole_process(self) -> None:
        """Let instrumented libraries of the user's code export their spans here too, if nobody else set a provider."""
        if self.provider is not None and isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
            trace.set_tracer_provider(self.provider)

    async def run(self) -> None:
        """Export metrics at intervals, until cancelled."""
        if self._exporter is None:
            await asyncio.get_running_loop().create_future()
        while True:
            await asyncio.sleep(_interval())
            await self._export_metrics()

    async def _export_metrics(self) -> None:
        assert self._exporter is not None
        # Collected here on the loop, as for a scrape, and sent from a thread.
        data = metrics_data(self._registry, self._resource, self._clock())
        result = await _in_thread(lambda: self._sent(data))
        if result is False and not self._failing:
            structlog.get_logger().warning("metrics_not_exported", why="the OTLP endpoint does not take them")
        self._failing = result is False

    def _sent(self, data: object) -> bool:
        assert self._exporter is not None
        return self._exporter.export(data) is MetricExportResult.SUCCESS  # type: ignore[arg-type]

    async def close(self) -> None:
        """Export what is left, for a few seconds at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                if self._exporter is not None:
                    await self._export_metrics()
                await _in_thread(self._shut_down)

    def _shut_down(self) -> bool:
        if self.provider is not None:
            self.provider.force_flush(int(CLOSE_SECONDS * 1000))
            self.provider.shutdown()
        if self._exporter is not None:
            self._exporter.shutdown()
        return True


async def _in_thread(work: Callable[[], bool]) -> bool:
    """Run this in a daemon thread: a request that hangs must not keep a stopped process alive. An error is False."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[bool] = loop.create_future()

    def end(result: bool) -> None:
        if not ended.done():
            ended.set_result(result)

    def run() -> None:
        try:
            result = work()
        except Exception:  # noqa: BLE001  the library's border
            result = False
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(end, result)

    threading.Thread(target=run, name="otlp", daemon=True).start()
    return await ended


def _interval() -> float:
    """Seconds between two exports of metrics; the standard says 60."""
    try:
        return max(SHORTEST_INTERVAL, int(os.environ.get("OTEL_METRIC_EXPORT_INTERVAL", "60000")) / 1000)
    except ValueError:
        return 60.0


def _random(bits: int) -> int:
    return secrets.randbits(bits) or 1
