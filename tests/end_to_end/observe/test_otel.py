"""A listener exports traces and metrics to a receiver of OTLP, and one that is away costs no event."""

from pathlib import Path

import pytest
from opentelemetry.trace import get_current_span

from tests.end_to_end.producer.conftest import RunningProducer
from tests.support.listeners import running_listener
from tests.support.otlp import otlp_receiver, values
from tests.support.source import running_source
from unlost import App, Backoff, Delivery
from unlost.ops.kit.telemetry.otel.context import trace_id_of

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
app = App()
SEEN: list[tuple[str, int]] = []


@app.on("order.created", retry=Backoff(attempts=3, first=0.01))
async def reserve(event: Delivery) -> None:
    SEEN.append((event.event_id, get_current_span().get_span_context().trace_id))
    if event.event_id == "flaky" and event.attempt < 3:
        raise ConnectionError("refused")


@app.on("mail")
def mail(event: Delivery) -> None:
    SEEN.append((event.event_id, get_current_span().get_span_context().trace_id))


EVENTS = (
    f'{{"event_id":"given","type":"order.created","payload":1,"traceparent":"00-{TRACE}-{PARENT}-01"}}',
    '{"event_id":"flaky","type":"order.created","payload":2}',
    '{"event_id":"threaded","type":"mail","payload":3}',
)


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    SEEN.clear()
    monkeypatch.setenv("OTEL_SERVICE_NAME", "shop")
    return monkeypatch


async def _run(redis_url: str, database_url: str, directory: Path) -> None:
    async with running_source() as source, running_listener(
        ws_url=source.url, redis_url=redis_url, database_url=database_url, directory=directory,
        handler=f"{__name__}:app",
    ) as one:  # fmt: skip
        await source.wait_for_clients(1)
        await source.send(*EVENTS)
        await one.heard.until(lambda heard: heard.ended == len(EVENTS))


async def test_traces_and_metrics_arrive(
    environment: pytest.MonkeyPatch, redis_url: str, database_url: str, tmp_path: Path
):
    with otlp_receiver() as received:
        environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", received.url)
        environment.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-team=shop")
        environment.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
        await _run(redis_url, database_url, tmp_path)
    whole = {values(span.attributes)["messaging.message.id"]: span for span in received.named("process")}
    given, flaky = whole["given"], whole["flaky"]
    assert (given.trace_id.hex(), given.parent_span_id.hex()) == (TRACE, PARENT)
    assert values(given.attributes)["unlost.outcome"] == "stored"
    assert int.from_bytes(flaky.trace_id) == trace_id_of("flaky")
    attempts = [span for span in received.named("handle reserve") if span.parent_span_id == flaky.span_id]
    assert [values(span.attributes)["unlost.attempt"] for span in attempts] == [1, 2, 3]
    assert [span.links[0].span_id for span in attempts[1:]] == [span.span_id for span in attempts[:2]]
    assert sorted(set(SEEN)) == sorted((name, int.from_bytes(span.trace_id)) for name, span in whole.items())
    assert {span.name for span in received.spans} >= {"claim", "store", "handle mail"}
    assert (received.resource["service.name"], received.resource["service.instance.id"]) == ("shop", "a")
    runs = {
        (labels["route"], labels["result"]): point.as_double
        for point in received.metric("unlost_handler_runs").sum.data_points
        if (labels := values(point.attributes))
    }
    assert (runs["reserve", "succeeded"], runs["reserve", "failed"], runs["mail", "succeeded"]) == (2, 2, 1)
    assert all(head["x-team"] == "shop" for head in received.heads)


@pytest.mark.parametrize("status", [400, 0])
async def test_a_receiver_that_refuses_or_is_away_costs_no_event(
    status: int, environment: pytest.MonkeyPatch, redis_url: str, database_url: str, tmp_path: Path
):
    with otlp_receiver(status) as received:
        environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", received.url if status else "http://127.0.0.1:1")
        environment.setenv("OTEL_METRIC_EXPORT_INTERVAL", "100")
        await _run(redis_url, database_url, tmp_path)
    assert len({name for name, _ in SEEN}) == len(EVENTS)
    assert bool(received.heads) is bool(status)


def test_a_producer_exports_a_span_for_each_event_that_it_accepts(environment: pytest.MonkeyPatch, tmp_path: Path):
    with otlp_receiver() as received:
        environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", received.url)
        producer = RunningProducer(tmp_path / "journal.sqlite")
        producer.start()
        for _ in range(2):
            producer.http.post("/publish/batch", content="\n".join(EVENTS)).raise_for_status()
        assert producer.end() == 0
    spans = {values(span.attributes)["messaging.message.id"]: span for span in received.spans}
    assert len(received.spans) == len(spans) == len(EVENTS), "the second time they are duplicates"
    assert (spans["given"].trace_id.hex(), spans["given"].parent_span_id.hex()) == (TRACE, PARENT)
    assert int.from_bytes(spans["flaky"].trace_id) == trace_id_of("flaky")
    assert spans["flaky"].end_time_unix_nano > spans["flaky"].start_time_unix_nano
    assert received.metric("unlost_producer_published").sum.data_points
