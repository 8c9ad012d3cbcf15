"""CloudEvents published over HTTP, in each mode, become the events that the feed ``cloudevents`` would make of them."""

import json
import threading
import time
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect

from tests.end_to_end.producer.conftest import RunningProducer

EVENT = {"specversion": "1.0", "id": "1", "source": "/shop", "type": "order.created", "data": {"total": 12.5}}
STRUCTURED, BATCH = "application/cloudevents+json", "application/cloudevents-batch+json"

GOOD = json.dumps(EVENT).encode()


def post(producer: RunningProducer, body: object, kind: str, headers: dict[str, str] | None = None) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return producer.http.post(
        "/publish/cloudevents", content=content, headers={"Content-Type": kind, **(headers or {})}
    )


def binary(event: dict[str, Any]) -> dict[str, str]:
    return {f"ce-{name}": value for name, value in event.items() if name != "data"}


def test_structured_and_binary_are_the_same_event(producer: RunningProducer) -> None:
    first = post(producer, EVENT, STRUCTURED)
    assert (first.status_code, first.json()["event_id"]) == (202, "/shop#1")
    assert post(producer, EVENT, f"{STRUCTURED}; charset=utf-8").json()["status"] == "duplicate"
    other = post(producer, {**EVENT, "data": 2}, STRUCTURED)
    assert (other.status_code, other.json()["status"]) == (409, "conflict")
    with_type = {**EVENT, "id": "2", "datacontenttype": "application/json", "subject": "größe"}
    assert post(producer, with_type, STRUCTURED).status_code == 202
    headers = {name: value for name, value in binary(with_type).items() if name != "ce-datacontenttype"}
    again = post(producer, with_type["data"], "application/json", {**headers, "ce-subject": "gr%C3%B6%C3%9Fe"})
    assert again.json()["status"] == "duplicate"


async def test_listeners_get_data_as_payload_and_all_attributes(producer: RunningProducer) -> None:
    async with connect(producer.stream, proxy=None) as stream:
        post(producer, {**EVENT, "subject": "s", "tenant": "a"}, STRUCTURED)
        post(producer, b"\x00\xff", "application/octet-stream", binary({**EVENT, "id": "raw"}))
        post(producer, "grüße".encode(), "text/plain", binary({**EVENT, "id": "text"}))
        post(producer, b"", "", binary({**EVENT, "id": "empty"}))
        whole, raw, text, empty = [json.loads(await stream.recv()) for _ in range(4)]
    assert (whole["type"], whole["payload"], whole["tenant"]) == ("order.created", {"total": 12.5}, "a")
    assert (raw["payload"], raw["data_base64"], raw["datacontenttype"]) == ("AP8=", True, "application/octet-stream")
    assert (text["payload"], empty["payload"]) == ("grüße", None)


def test_a_batch_has_an_answer_for_each(producer: RunningProducer) -> None:
    answer = post(producer, [EVENT, {**EVENT, "id": "2"}, {"id": "3"}, EVENT], BATCH)
    shown = [json.loads(line) for line in answer.text.splitlines()]
    assert [(one["line"], one["status"]) for one in shown] == [
        (1, "accepted"), (2, "accepted"), (3, "invalid"), (4, "duplicate"),
    ]  # fmt: skip
    assert "needs the attribute specversion" in shown[2]["error"]
    assert post(producer, b" [ ] ", BATCH).text == ""


@pytest.mark.parametrize(
    ("body", "statuses", "why"),
    [
        (b"{}", ["invalid"], "it does not begin with ["),
        (b"", ["invalid"], "not closed after item 0"),
        (b"[%b,", ["accepted", "invalid"], "not closed after item 1"),
        (b"[%b", ["invalid"], "not closed after item 0"),
        (b"[%b] 1", ["accepted", "invalid"], "something follows"),
        (b"[%b,]", ["accepted", "invalid"], "not a CloudEvent"),
        (b"[%b,0,%b]", ["accepted", "invalid", "duplicate"], "not a CloudEvent"),
        (b'[%b,"[{\\"', ["accepted", "invalid"], "not closed after item 1"),
    ],
)
def test_an_invalid_batch_is_refused_after_the_events_before(
    producer: RunningProducer, body: bytes, statuses: list[str], why: str
) -> None:
    shown = [json.loads(line) for line in post(producer, body.replace(b"%b", GOOD), BATCH).text.splitlines()]
    assert [one["status"] for one in shown] == statuses
    assert why in next(one["error"] for one in shown if one["status"] == "invalid")


def test_many_small_items_hold_nobody_up(producer: RunningProducer) -> None:
    body, answered, waits = b"[" + b"0," * 400_000 + b"0]", threading.Event(), []

    def probe() -> None:
        with httpx.Client(base_url=producer.url, timeout=60.0) as http:
            while not answered.is_set():
                started = time.monotonic()
                http.get("/health/live")
                waits.append(time.monotonic() - started)

    probing = threading.Thread(target=probe)
    probing.start()
    try:
        with httpx.Client(base_url=producer.url, timeout=120.0) as http:
            started = time.monotonic()
            answer = http.post("/publish/cloudevents", content=body, headers={"Content-Type": BATCH})
            whole = time.monotonic() - started
    finally:
        answered.set()
        probing.join()
    assert answer.text.count('"status":"invalid"') == 400_001
    assert max(waits) < whole / 8, "every part of the work gives others a turn"


def test_an_item_that_is_too_large_is_not_read_to_its_end(producer: RunningProducer) -> None:
    answer = post(producer, b"[" + GOOD + b"," + b"[" * 3_000_000, BATCH)
    shown = [json.loads(line) for line in answer.text.splitlines()]
    assert (answer.status_code, shown[-1]["status"]) == (413, "too_large")
    assert "item 2 has more than" in shown[-1]["error"]


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "not a CloudEvent in JSON"),
        (b"[]", "not a CloudEvent in JSON"),
        (b"\xff", "not a CloudEvent in JSON"),
        (b"[" * 100_000, "not a CloudEvent in JSON"),
        ({**EVENT, "specversion": "0.3"}, "specversion must be 1.0"),
        ({**EVENT, "id": ""}, "must not be empty"),
        ({**EVENT, "id": 5}, "needs the attribute id, a text"),
        ({**EVENT, "id": "x" * 300}, "256 are allowed"),
        ({**EVENT, "cursor": "x"}, "the attribute cursor cannot be kept"),
        ({**EVENT, "payload": "x"}, "the attribute payload cannot be kept"),
        ({**EVENT, "data_base64": "AA=="}, "not both"),
        (b'{"specversion":"1.0","id":"1","id":"2","source":"s","type":"t"}', "occurs twice"),
        (b'{"specversion":"1.0","id":"1","source":"s","type":"t","data":{"a":1,"a":2}}', "occurs twice"),
    ],
)
def test_an_invalid_cloudevent_is_refused_with_a_reason(
    shared_producer: RunningProducer, body: object, why: str
) -> None:
    answer = post(shared_producer, body, STRUCTURED)
    assert (answer.status_code, answer.json()["status"]) == (400, "invalid")
    assert why in answer.json()["error"]


@pytest.mark.parametrize("data", [b'1,"event_id":"other"', b"{", b'{"a":NaN}', b"\xff"])
def test_data_that_is_not_json_gets_no_further(shared_producer: RunningProducer, data: bytes) -> None:
    answer = post(shared_producer, data, "application/json", binary(EVENT))
    assert (answer.status_code, answer.json()["status"]) == (400, "invalid")
    assert shared_producer.http.get("/api/journal").text == ""


def test_a_body_that_is_too_large_is_not_read_to_its_end(shared_producer: RunningProducer) -> None:
    answer = post(shared_producer, b"x" * 3_000_000, STRUCTURED)
    assert (answer.status_code, answer.json()["status"]) == (413, "too_large")
