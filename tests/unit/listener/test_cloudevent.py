"""Events leave as CloudEvents that the producer reads as the same events."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unlost.listener.core.delivery import Delivery
from unlost.listener.core.event import Event, parse
from unlost.producer.publish.cloudevents import event_of

STRUCTURED = "application/cloudevents+json"
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=9)


def delivery(event: Event) -> Delivery:
    other = json.loads(event.other) if event.other else {}
    return Delivery(event.event_id, event.type, json.loads(event.payload), other, 1, 1)


def both_ways(one: Delivery) -> list[Event]:
    headers, body = one.cloudevent_request()
    return [
        parse(event_of(STRUCTURED, {}, json.dumps(one.cloudevent()).encode()), max_bytes=100_000),
        parse(event_of(headers["content-type"], headers, body), max_bytes=100_000),
    ]


def test_an_event_of_ours_has_its_id_and_only_what_a_cloudevent_may_have():
    other = {
        "traceparent": "00-a-b-01",
        "tenant": 7,
        "urgent": True,
        "Odd Name": 1,
        "nested": {},
        "data": "x",
        "big": 2**40,
    }
    one = Delivery("order-1", None, {"sku": "größe"}, other, 1, 1)
    assert one.cloudevent("/shop") == {
        "specversion": "1.0", "id": "order-1", "source": "/shop", "type": "event", "traceparent": "00-a-b-01",
        "tenant": 7, "urgent": True, "data": {"sku": "größe"},
    }  # fmt: skip
    headers, body = one.cloudevent_request("/shop")
    assert headers["content-type"] == "application/json"
    assert (headers["ce-id"], headers["ce-tenant"], headers["ce-urgent"]) == ("order-1", "7", "true")
    assert json.loads(body) == {"sku": "größe"}


@given(
    TEXTS.filter(lambda text: text and "#" not in text),
    st.recursive(st.none() | st.booleans() | st.integers(-(2**50), 2**50) | TEXTS, st.lists),
    st.dictionaries(st.sampled_from(["subject", "tenant", "time"]), TEXTS),
)
def test_a_cloudevent_comes_back_as_the_event_that_it_was(name: str, data: Any, more: dict[str, str]):
    sent = {"specversion": "1.0", "id": name, "source": "/shop", "type": "t", "data": data, **more}
    event = parse(event_of(STRUCTURED, {}, json.dumps(sent).encode()), max_bytes=100_000)
    for again in both_ways(delivery(event)):
        assert (again.event_id, again.type, json.loads(again.payload)) == (f"/shop#{name}", "t", data)
        fields = json.loads(again.other or b"{}")
        assert {key: fields.get(key) for key in more} == more


@pytest.mark.parametrize(
    ("kind", "body"), [("application/octet-stream", b"\x00\xff"), ("text/plain", "grüße".encode())]
)
def test_bytes_and_texts_leave_as_they_came(kind: str, body: bytes):
    headers = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/s", "ce-type": "t"}
    event = parse(event_of(kind, headers, body), max_bytes=1000)
    left, sent = delivery(event).cloudevent_request()
    assert (left, sent) == ({**headers, "content-type": kind}, body)
