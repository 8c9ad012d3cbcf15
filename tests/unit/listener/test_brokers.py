"""Addresses of brokers, and the ids of events that bring none."""

import contextlib
import json
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unlost.listener.app.settings import ListenerSettings
from unlost.listener.app.sources import builders, check_names, check_order
from unlost.listener.core.errors import InvalidEvent, Misconfigured
from unlost.listener.core.event import parse
from unlost.listener.source.brokers.address import read_address
from unlost.listener.source.brokers.identity import with_id
from unlost.listener.source.brokers.kafka import OPTIONS as KAFKA_OPTIONS
from unlost.listener.source.brokers.kafka import security_of
from unlost.listener.source.brokers.trace import traces_of


def read(text: str) -> Any:
    return read_address(text, what="STREAM", port=4222, options=("durable", "ack_wait"))


def test_an_address_has_hosts_a_name_and_options() -> None:
    address = read("nats://user:secret@one,two:4333/ORDERS?durable=d&ack_wait=2.5")
    assert address.hosts == ("one:4222", "two:4333")
    assert address.servers == ["nats://user:secret@one:4222", "nats://user:secret@two:4333"]
    assert address.name == "nats://one:4222,two:4333/ORDERS"
    assert address.options == {"durable": "d", "ack_wait": "2.5"}
    assert address.seconds("ack_wait", 30.0) == 2.5
    assert read("nats://one/ORDERS").seconds("ack_wait", 30.0) == 30.0


@pytest.mark.parametrize(("text", "sentence"), [
    ("nats://one:4222", "it names no STREAM, as in nats://host:4222/STREAM"),
    ("nats:///ORDERS", "it names no host"),
    ("nats://one/ORDERS?durabel=d", "the option durabel is not known; known are ack_wait, durable"),
    ("nats://one/ORDERS?durable=a&durable=b", "the option durable occurs twice"),
    ("nats://one/ORDERS?durable=", "the option durable is empty"),
    ("nats://a:secret@one/ORDERS?x=1&y=2", "option x is not known; known are ack_wait, durable; the option y is not"),
])  # fmt: skip
def test_mistakes_in_an_address_are_reported_together(text: str, sentence: str) -> None:
    with pytest.raises(Misconfigured) as refused:
        read(text)
    assert sentence in str(refused.value)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("value", ["0", "-1", "soon", "nan", "86401"])
def test_seconds_have_limits(value: str) -> None:
    with pytest.raises(Misconfigured, match=f"ack_wait is a number of seconds up to 86400, not {value}"):
        read(f"nats://one/ORDERS?ack_wait={value}").seconds("ack_wait", 30.0)


ADAPTERS = ("unlost.listener.source.brokers.", "unlost.listener.source.socketio.")


@pytest.mark.parametrize(("item", "library", "extra"), [
    ("nats://one/S", "nats", "nats"), ("kafka://one/t", "aiokafka", "kafka"), ("amqp://one/q", "aiormq", "rabbitmq"),
    ("socketio://one/n", "socketio", "socketio"),
])  # fmt: skip
def test_a_missing_extra_is_one_sentence(item: str, library: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [one for one in sys.modules if one.startswith(ADAPTERS)]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    nothing: Any = None
    (build,) = builders(ListenerSettings.load({"source": item}), nothing, lambda: None, nothing, nothing)
    with pytest.raises(Misconfigured, match=f"needs the library {library}.*pip install 'unlost.{extra}.'"):
        build(lambda: None)


@pytest.mark.parametrize("partitions", ["on", "off"])
def test_our_own_stream_in_partitions_keeps_no_order_of_keys(partitions: str) -> None:
    nothing: Any = None
    (build,) = builders(ListenerSettings.load({"partitions": partitions}), nothing, lambda: None, nothing, nothing)
    source = build(lambda: None)
    assert source.shared == (partitions == "on")
    check_order("", [source])
    with pytest.raises(Misconfigured, match="PARTITIONS=off") if source.shared else contextlib.nullcontext():
        check_order("payload.account", [source])


def test_a_stream_of_rabbitmq_is_read_by_all_and_said_to_be_one() -> None:
    nothing: Any = None

    def built(item: str) -> Any:
        (build,) = builders(ListenerSettings.load({"source": item}), nothing, lambda: None, nothing, nothing)
        return build(lambda: None)

    assert (built("amqp://one/q").shared, built("amqp://one/q?stream=true").shared) == (True, False)
    with pytest.raises(Misconfigured, match="SOURCE=amqp://one:5672/q: stream is true, or left out"):
        built("amqp://one/q?stream=false")


def test_a_stream_of_jetstream_that_is_read_in_order_is_read_by_all() -> None:
    nothing: Any = None

    def built(item: str) -> Any:
        (build,) = builders(ListenerSettings.load({"source": item}), nothing, lambda: None, nothing, nothing)
        return build(lambda: None)

    assert (built("nats://one/S").shared, built("nats://one/S?ordered=true").shared) == (True, False)
    check_order("payload.key", [built("nats://one/S?ordered=true")])
    with pytest.raises(Misconfigured, match=r"ORDER_BY=payload.key cannot be kept for nats:.*\?ordered=true"):
        check_order("payload.key", [built("nats://one/S")])
    with pytest.raises(Misconfigured, match="SOURCE=nats://one:4222/S: ordered is true, or left out"):
        built("nats://one/S?ordered=false")
    with pytest.raises(Misconfigured, match="durable and filter belong to a shared consumer"):
        built("nats://one/S?ordered=true&durable=d&filter=S.a")


NATS = "nats://one/S?durable=d"


@pytest.mark.parametrize(("items", "refused"), [
    (f"{NATS} nats://one:4222/S?durable=d&ack_wait=5", True),
    (f"{NATS} nats://two,one/S?durable=d", True),
    (f"{NATS} nats://two/S?durable=d", False),
    (f"{NATS} nats://one/S?durable=e", False),
    (f"{NATS} nats://one/T?durable=d", False),
    ("kafka://one,two/t?group=g kafka://two,three/t?group=g", True),
    ("kafka://one/t?group=g kafka://one/t?group=h", False),
    ("amqp://a:b@one/q amqp://c:d@one/q", True),
    ("amqp://one/q amqp://one/q?vhost=other", False),
    ("amqp://one/q amqp://one/q?stream=true", True),
    ("ws://one/feed?a=1 ws://one/feed?a=2", True),
])  # fmt: skip
def test_sources_that_would_share_a_cursor_are_refused(items: str, refused: bool) -> None:
    nothing: Any = None
    builds = builders(ListenerSettings.load({"source": items}), nothing, lambda: None, nothing, nothing)
    names = [build(lambda: None).name for build in builds]
    if not refused:
        check_names(names)
        return
    with pytest.raises(Misconfigured, match="the same source more than once"):
        check_names(names)


@pytest.mark.parametrize(("body", "after"), [
    (b'{"event_id":"own","payload":1}', b'{"event_id":"own","payload":1}'),
    (b' {"payload":1, "event_id" : "own"}', b' {"payload":1, "event_id" : "own"}'),
    (b'{"event\\u005fid":"own","payload":1}', b'{"event\\u005fid":"own","payload":1}'),
    (b'{"event_id":null,"payload":1}', b'{"event_id":null,"payload":1}'),
    (b'{"payload":{"event_id":"inner"}}', b'{"event_id":"x","payload":{"event_id":"inner"}}'),
    (b'{"payload":"\\u00e9"}', b'{"event_id":"x","payload":"\\u00e9"}'),
    (b" { }", b'{"event_id":"x"}'),
    (b"null", b'{"event_id":"x","payload":null}'),
    (b'"text"', b'{"event_id":"x","payload":"text"}'),
    (b"{broken", b"{broken"),
    (b"", b""),
    (b"\xff", b"\xff"),
])  # fmt: skip
def test_an_id_is_given_to_what_has_none(body: bytes, after: bytes) -> None:
    assert with_id(body, "x") == after


NAMES = st.sampled_from(["event_id", "payload", "type", "a"])
TEXTS = st.text(
    st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=5
)  # events have no U+0000


@given(st.dictionaries(NAMES, TEXTS), st.booleans())
def test_nothing_else_of_an_event_changes(fields: dict[str, str], ascii_only: bool) -> None:
    text = json.dumps(fields, ensure_ascii=ascii_only)
    given_id = json.loads(with_id(text.encode(), "x"))
    assert given_id == {"event_id": "x"} | fields


@given(st.binary(max_size=30))
def test_a_body_that_is_no_json_is_refused_unchanged(body: bytes) -> None:
    try:
        parse(with_id(body, "x"), max_bytes=1_000)
    except InvalidEvent:
        assert with_id(body, "x") == body


@pytest.mark.parametrize(("headers", "found"), [
    ([("Traceparent", b"00-a"), ("other", b"x")], {"traceparent": "00-a"}),
    ([("traceparent", "00-a"), ("tracestate", "v=1")], {"traceparent": "00-a", "tracestate": "v=1"}),
    ([("traceparent", b"x" * 513)], None),
    ([("traceparent", 7), (3, None)], None),
    ([("traceparent", b"\xff")], {"traceparent": "\ufffd"}),
])  # fmt: skip
def test_headers_that_name_a_trace_are_kept_within_limits(headers: Any, found: Any) -> None:
    assert list(traces_of([headers, None])) == ([found, None] if found else [])


def test_the_login_of_kafka_may_have_any_letters() -> None:
    address = read_address("kafka://us%40er:p%40ss%2F%25@h/t", what="topic", port=9092, options=KAFKA_OPTIONS)
    given = security_of(address)
    assert (given["sasl_plain_username"], given["sasl_plain_password"]) == ("us@er", "p@ss/%")


@pytest.mark.parametrize(("option", "known"), [("security=bogus", "SASL_SSL"), ("mechanism=bogus", "SCRAM-SHA-512")])
def test_how_kafka_is_protected_is_checked_at_the_start(option: str, known: str) -> None:
    nothing: Any = None
    settings = ListenerSettings.load({"source": f"kafka://u:p@h/t?{option}"})
    (build,) = builders(settings, nothing, lambda: None, nothing, nothing)
    with pytest.raises(Misconfigured, match=f"is one of .*{known}"):
        build(lambda: None)
