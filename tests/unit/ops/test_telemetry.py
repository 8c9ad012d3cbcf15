"""Every process exposes logs without secrets, metrics in batches, health, and HTTP with limits."""

import asyncio
import contextlib
import io
import json
import logging

import httpx
import pytest
import structlog
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from unlost.ops.kit.telemetry.health import Check, Health, health_routes
from unlost.ops.kit.telemetry.http import HttpServer, PortTaken
from unlost.ops.kit.telemetry.logs import configure_logs
from unlost.ops.kit.telemetry.metrics import BatchHistogram, LoopLag, Stopwatch, metrics_route, new_registry


@pytest.fixture
def log_lines():
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    yield stream
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


def test_no_password_of_any_url_reaches_the_log(log_lines):
    configure_logs("info", "a", stream=log_lines)
    log = structlog.get_logger()
    log.info("connecting", url="redis://:hunter2@h:1/0", nested={"all": ["postgresql://u:hunter2@h/db"]})
    try:
        int("postgresql://u:hunter2@h/db")
    except ValueError as error:
        log.exception("failed", error=error)
    logging.getLogger("a.library").warning("lost %s", "redis://:hunter2@h:1")
    lines = [json.loads(line) for line in log_lines.getvalue().splitlines()]
    assert len(lines) == 3
    assert "hunter2" not in log_lines.getvalue()
    assert all(line["instance"] == "a" and line["time"].endswith("Z") for line in lines)


def test_a_log_that_cannot_be_written_stops_no_work(log_lines):
    with contextlib.suppress(OSError), open("/dev/full", "w", buffering=1) as full:  # noqa: PTH123
        configure_logs("info", "a", stream=full)
        for _ in range(1000):
            structlog.get_logger().info("as on a full disk", text="x" * 100)
            logging.getLogger("a.library").warning("as on a full disk")


def test_a_batch_is_counted_like_single_values():
    registry = new_registry()
    histogram = BatchHistogram("unlost_x_seconds", "x", registry, buckets=(0.1, 1.0), label="stage")
    histogram.observe_many([0.05, 0.1, 0.5, 7], "store")
    read = registry.get_sample_value
    assert read("unlost_x_seconds_bucket", {"stage": "store", "le": "0.1"}) == 2
    assert read("unlost_x_seconds_bucket", {"stage": "store", "le": "1.0"}) == 3
    assert read("unlost_x_seconds_bucket", {"stage": "store", "le": "+Inf"}) == 4
    assert read("unlost_x_seconds_count", {"stage": "store"}) == 4
    assert read("unlost_x_seconds_sum", {"stage": "store"}) == pytest.approx(7.65)
    with pytest.raises(ValueError, match="Duplicated"):
        BatchHistogram("unlost_x_seconds", "x", registry)


def test_a_failed_dependency_makes_unready_and_never_dead():
    health = Health("a", alive=(Check("loop", True),), able=(Check("database", False, "refused"),))
    assert health.is_live
    assert not health.is_ready
    assert health.ready() == {"status": "unready", "reasons": ["database: refused"], "remarks": []}
    assert not Health("a", alive=(Check("reader", False, "ended"),)).is_ready


async def _echo(request: Request) -> PlainTextResponse:
    return PlainTextResponse(str(len(await request.body())))


async def test_the_server_answers_and_limits_bodies_and_reports_a_taken_port():
    registry = new_registry()
    LoopLag(registry)
    app = Starlette(
        routes=[
            Route("/", _echo, methods=["POST"]),
            metrics_route(registry),
            *health_routes(lambda: Health("a", able=(Check("database", False, "refused"),))),
        ]
    )
    server = HttpServer(app, max_body=1000)
    port = await server.start()

    async def chunks():
        for _ in range(3):
            yield b"x" * 500

    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
        assert (await client.post("/", content=b"x" * 1000)).text == "1000"
        assert (await client.post("/", content=b"x" * 1001)).status_code == 413
        assert (await client.post("/", content=chunks())).status_code == 413
        assert (await client.get("/health/live", headers={"x": "y" * 70_000})).status_code == 431
        assert "unlost_event_loop_lag_seconds" in (await client.get("/metrics")).text
        assert (await client.get("/health/live")).status_code == 200
        assert (await client.get("/health/ready")).status_code == 503
    with pytest.raises(PortTaken, match=str(port)):
        await HttpServer(app, port=port).start()
    await server.stop()
    again = HttpServer(app, port=port)
    assert await again.start() == port
    await again.stop()


async def test_a_blocked_loop_is_seen_as_lag():
    lag = LoopLag(new_registry(), every=0.01)
    task = asyncio.create_task(lag.run())
    await asyncio.sleep(0)
    while lag.seconds < 0.05:
        until = asyncio.get_running_loop().time() + 0.1
        while asyncio.get_running_loop().time() < until:
            pass
        await asyncio.sleep(0.001)
    task.cancel()


def test_a_stopwatch_counts_while_it_runs_and_keeps_what_it_counted() -> None:
    now = 10.0
    registry = CollectorRegistry()
    watch = Stopwatch("unlost_wet_seconds", "Seconds of rain", registry, clock=lambda: now)
    watch.turn(True)
    now = 12.0
    assert registry.get_sample_value("unlost_wet_seconds_total") == 2
    watch.turn(True)
    watch.turn(False)
    now = 50.0
    watch.turn(False)
    assert registry.get_sample_value("unlost_wet_seconds_total") == 2
