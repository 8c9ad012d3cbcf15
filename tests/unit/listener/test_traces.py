"""Facts become spans: which, with which parents, links and ends."""

from collections.abc import Iterator, Sequence

import pytest
from opentelemetry import context
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from structlog.testing import capture_logs

from unlost.listener.core.claim import ClaimRequest
from unlost.listener.core.event import parse
from unlost.listener.core.facts import (
    AttemptFailed,
    AttemptStarted,
    BatchDone,
    EffectBuried,
    EffectDelivered,
    EffectFailed,
    EventBuried,
    EventsClaimed,
    EventsDuplicate,
    EventsStored,
    HandlerRan,
    LeasesLost,
)
from unlost.listener.core.in_flight import DUPLICATE, STORED, Buried, End, InFlight
from unlost.listener.observe.traces import Traces
from unlost.ops.kit.telemetry.otel.context import trace_id_of
from unlost.ops.kit.telemetry.otel.export import GivenIds
from unlost.ops.kit.telemetry.redact import UNMASKED, Redactor

TRACE, PARENT = 0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331
GIVEN = '"traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"'


@pytest.fixture(autouse=True)
def _own_context() -> Iterator[None]:
    """An attempt's span becomes the current one, as in the task of a handler; here it must not outlive the test."""
    token = context.attach(context.Context())
    yield
    context.detach(token)


class Traced:
    """The traces of one listener, and its events in memory."""

    def __init__(self, instance: str = "a", redactor: Redactor = UNMASKED) -> None:
        ids, self.exporter, self.inside = GivenIds(), InMemorySpanExporter(), dict[str, InFlight]()
        provider = TracerProvider(id_generator=ids, shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.see = Traces(provider, ids, self.inside.get, group="g", instance=instance, redactor=redactor)

    def claim(self, event_id: str, fields: str = "", **known: object) -> InFlight:
        frame = f'{{"event_id":"{event_id}","type":"t","payload":1{"," if fields else ""}{fields}}}'.encode()
        event = parse(frame, max_bytes=1000)
        flight = InFlight(event, ClaimRequest(event_id, event.digest), None, 1000.0, 1.0, epoch=1)
        for name, value in known.items():
            setattr(flight, name, value)
        self.inside[event_id] = flight
        self.see(EventsClaimed([event_id]))
        return flight

    def end(self, event_id: str, end: End) -> None:
        self.inside.pop(event_id).end = end
        self.see(EventsStored([event_id], [0.1]) if end is STORED else EventsDuplicate([event_id]))

    def spans(self, start: str = "") -> Sequence[ReadableSpan]:
        return [span for span in self.exporter.get_finished_spans() if span.name.startswith(start)]

    def span(self, start: str) -> ReadableSpan:
        (found,) = self.spans(start)
        return found


def test_a_stored_event_has_a_span_with_its_stages_below_that_of_its_publisher():
    traced = Traced()
    traced.claim("e", GIVEN)
    traced.see(AttemptStarted("e", "reserve", 1))
    traced.see(HandlerRan("e", 0.1, True, "reserve"))
    traced.end("e", STORED)
    whole = traced.span("process")
    assert whole.parent is not None
    assert (whole.context.trace_id, whole.parent.span_id, whole.kind.name) == (TRACE, PARENT, "CONSUMER")
    assert whole.start_time == 1000 * 10**9
    attributes = dict(whole.attributes or {})
    assert attributes["unlost.outcome"] == "stored"
    assert attributes["messaging.message.id"] == "e"
    assert attributes["messaging.consumer.group.name"] == "g"
    for name in ("claim", "handle reserve", "store"):
        child = traced.span(name)
        assert child.parent is not None
        assert (child.context.trace_id, child.parent.span_id) == (TRACE, whole.context.span_id)


@pytest.mark.parametrize("fields", ["", '"traceparent":"nonsense"', '"traceparent":7', '"other":{"traceparent":"x"}'])
def test_without_a_valid_traceparent_all_listeners_give_an_event_the_same_trace(fields: str):
    for instance in ("a", "b"):
        traced = Traced(instance)
        traced.claim("e", fields)
        traced.end("e", STORED)
        assert traced.span("process").context.trace_id == trace_id_of("e")
        assert traced.span("process").parent is None


def test_headers_of_the_message_are_the_parent_unless_the_event_has_one():
    traced = Traced()
    header = {"traceparent": f"00-{TRACE:032x}-{1:016x}-01"}
    traced.claim("e", trace=header)
    traced.claim("f", GIVEN, trace=header)
    traced.end("e", STORED)
    traced.end("f", STORED)
    assert [one.parent and one.parent.span_id for one in traced.spans("process")] == [1, PARENT]


def test_attempts_are_linked_and_the_failed_ones_say_why():
    traced = Traced()
    traced.claim("e")
    for number in (1, 2, 3):
        traced.see(AttemptStarted("e", "mail", number))
        traced.see(HandlerRan("e", 0.1, number == 3, "mail", number))
        if number < 3:
            why = "no password postgresql://u:secret@h/d"
            traced.see(AttemptFailed("handle", "transient", why, True, 1, "e", "ConnectionError"))
    traced.end("e", STORED)
    first, second, third = traced.spans("handle mail")
    assert [link.context for link in second.links] == [first.context]
    assert [link.context for link in third.links] == [second.context]
    assert dict(third.links[0].attributes or {}) == {"unlost.link": "retry"}
    assert (first.status.status_code, third.status.status_code) == (StatusCode.ERROR, StatusCode.UNSET)
    assert dict(first.attributes or {})["error.type"] == "ConnectionError"
    assert "secret" not in str(first.to_json())


def test_payload_fields_that_are_masked_are_in_no_span():
    traced = Traced(redactor=Redactor(["card"]))
    traced.claim("e", '"card":"4111-zz-1111"')
    traced.see(AttemptStarted("e", "mail", 1))
    traced.see(HandlerRan("e", 0.1, False, "mail", 1))
    traced.see(AttemptFailed("handle", "permanent", "card 4111-zz-1111 refused", False, 1, "e", "Reject"))
    traced.see(EventBuried("e", "rejected", "permanent", "card 4111-zz-1111 refused", "Reject"))
    shown = "".join(str(span.to_json()) for span in traced.spans())
    assert "card *** refused" in shown
    assert "4111-zz" not in shown


def test_answers_to_effects_are_in_no_span_if_fields_are_masked():
    traced = Traced(redactor=Redactor(["card"]))
    traced.see(EffectFailed("e", "k1", "h", "HTTP 400: card 4111-zz-1111", True))
    traced.see(EffectBuried("e", "k2", "permanent", "HTTP 400: card 4111-zz-1111"))
    assert "4111-zz" not in "".join(str(span.to_json()) for span in traced.spans("deliver effect"))


def test_a_new_owner_links_to_the_span_of_the_owner_that_it_replaced():
    one, other = Traced("a"), Traced("b")
    one.claim("e")
    one.see(LeasesLost(["e"]))
    other.claim("e", epoch=2, takeovers=1)
    other.end("e", STORED)
    lost, whole = one.span("process"), other.span("process")
    assert lost.status.status_code is StatusCode.ERROR
    assert [link.context.span_id for link in whole.links] == [lost.context.span_id]
    assert whole.links[0].context.trace_id == lost.context.trace_id == whole.context.trace_id
    assert dict(whole.links[0].attributes or {}) == {"unlost.link": "takeover"}


def test_a_replay_links_to_the_span_that_ended_in_the_letter():
    traced = Traced()
    traced.claim("e")
    traced.see(EventBuried("e", "exhausted", "transient", "it failed", "ValueError"))
    first = traced.span("process")
    assert (dict(first.attributes or {})["unlost.outcome"], first.status.status_code) == ("buried", StatusCode.ERROR)
    traced.claim("e", revive=True, received_at=2000.0)
    traced.inside["e"].end = Buried("exhausted")
    traced.see(BatchDone("bury", 1, 0.1))
    again = traced.spans("process")[1]
    assert [link.context.span_id for link in again.links] == [first.context.span_id]
    assert again.context.span_id != first.context.span_id
    assert dict(again.attributes or {})["unlost.outcome"] == "buried"


def test_a_copy_does_not_end_its_event_and_does_not_change_how_it_ended():
    traced = Traced()
    flight = traced.claim("e")
    traced.see(EventsDuplicate(["e"]))  # a copy ended with an earlier owner's row
    assert not traced.spans("process")
    flight.end = STORED
    traced.see(EventsDuplicate(["e"]))
    traced.see(EventsStored(["e"], [0.1]))
    assert dict(traced.span("process").attributes or {})["unlost.outcome"] == "stored"
    traced.claim("f")
    traced.end("f", DUPLICATE)
    assert dict(traced.spans("process")[1].attributes or {})["unlost.outcome"] == "duplicate"


def test_nothing_stays_open_at_the_end_and_unknown_events_are_ignored():
    traced = Traced()
    traced.claim("e")
    traced.see(AttemptStarted("e", "r", 1))
    for fact in (
        EventsClaimed(["x"]),
        AttemptStarted("x", "r", 1),
        HandlerRan("x", 1, False),
        EventsStored(["x"], [1]),
    ):
        traced.see(fact)
    traced.see.close()
    assert [span.name for span in traced.spans()] == ["claim", "handle r", "process letters"]
    assert dict(traced.span("process").attributes or {})["unlost.outcome"] == "unsettled"


def test_effects_have_spans_below_their_event_or_in_its_trace():
    traced = Traced()
    traced.claim("e", GIVEN)
    traced.end("e", STORED)
    traced.see(EffectDelivered("e", "k1", 0.5))
    traced.see(EffectFailed("e", "k2", "h", "503", True))
    traced.see(EffectBuried("long-ago", "k3", "permanent", "400"))
    whole = traced.span("process")
    delivered, failed, buried = traced.spans("deliver effect")
    for one in (delivered, failed):
        assert one.parent is not None
        assert (one.context.trace_id, one.parent.span_id) == (TRACE, whole.context.span_id)
    assert delivered.end_time is not None
    assert delivered.start_time is not None
    assert delivered.end_time - delivered.start_time == 5 * 10**8
    assert [one.status.status_code for one in (delivered, failed, buried)] == [
        StatusCode.UNSET, StatusCode.ERROR, StatusCode.ERROR,
    ]  # fmt: skip
    assert (buried.parent, buried.context.trace_id) == (None, trace_id_of("long-ago"))
    assert dict(buried.links[0].attributes or {}) == {"unlost.link": "effect"}


def test_an_error_of_the_library_is_logged_and_harms_no_event(monkeypatch: pytest.MonkeyPatch):
    traced = Traced()

    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("no span")

    monkeypatch.setattr("opentelemetry.sdk.trace.Tracer.start_span", fails)
    with capture_logs() as lines:
        traced.claim("e")
    assert [line["event"] for line in lines] == ["trace_failed"]
