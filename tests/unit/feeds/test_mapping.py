"""A profile makes events of messages."""

import gzip
import json
import zlib

import msgspec
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from unlost.listener.core.errors import InvalidEvent
from unlost.listener.core.event import parse as parse_event
from unlost.listener.source.feed.hook import (
    Action,
    Again,
    Beat,
    FeedEvent,
    Missed,
    Numbered,
    Receipt,
    Refused,
    Send,
    Stop,
    body_of,
    refused_body,
)  # fmt: skip
from unlost.listener.source.feed.loading import load, parse
from unlost.listener.source.feed.mapping import ProfileMapping
from unlost.listener.source.feed.paths import Elements, Fields, path_of


def mapping(text: str) -> ProfileMapping:
    return ProfileMapping(parse(f'url = "wss://x/"\n{text}', "x", {}).profile, max_bytes=10_000)


def read(text: str, message: object) -> list[Action]:
    encoded = message if isinstance(message, bytes) else json.dumps(message).encode()
    return list(mapping(text).read(encoded))


def bodies(text: str, message: object) -> list[dict[str, object]]:
    return [json.loads(body_of(one)) for one in read(text, message) if isinstance(one, FeedEvent)]


def test_an_event_is_our_envelope_around_the_feeds_own_bytes():
    message = b'{"type" : "match", "product_id":"BTC-USD","trade_id":10, "price": 400.230 }'
    (event,) = mapping('id = "{product_id}:{trade_id}"\ntype = "type"').read(message)
    assert isinstance(event, FeedEvent)
    assert body_of(event) == b'{"event_id":"BTC-USD:10","type":"match","payload":%b}' % message
    assert parse_event(body_of(event), max_bytes=10_000).event_id == "BTC-USD:10"


@pytest.mark.parametrize(
    ("text", "message", "expected"),
    [
        ('id = "id"', {"id": 5}, {"event_id": "5", "payload": {"id": 5}}),
        ('id = "a.b[1].c"', {"a": {"b": [0, {"c": "x"}]}}, {"event_id": "x", "payload": {"a": {"b": [0, {"c": "x"}]}}}),
        ('id = "[1].i"\ntype = "[0]"\npayload = "[2]"', ["t", {"i": 1}, 7], {"event_id": "1", "type": "t", "payload": 7}),  # noqa: E501
        ('id = "d.id"\npayload = "d"', {"d": {"id": 1, "x": 2}}, {"event_id": "1", "payload": {"id": 1, "x": 2}}),
        ('id = ["a", "b"]', {"b": "x"}, {"event_id": "x", "payload": {"b": "x"}}),
        ('id = "id"\ntype = "=trade"', {"id": 1}, {"event_id": "1", "type": "trade", "payload": {"id": 1}}),
        ('id = "id"\ntype = "type"', {"id": 1, "type": None}, {"event_id": "1", "payload": {"id": 1, "type": None}}),
        ("id = '\"a.b\"'", {"a.b": "x"}, {"event_id": "x", "payload": {"a.b": "x"}}),
        ("id = '{@id}:{\"a }b\"}'", {"@id": 1, "a }b": 2}, {"event_id": "1:2", "payload": {"@id": 1, "a }b": 2}}),
        ("id = '{1st}}'", {"1st": "x"}, {"event_id": "x}", "payload": {"1st": "x"}}),
        ('id = "sha256"', {"x": 1}, {"payload": {"x": 1}}),
    ],
)  # fmt: skip
def test_ids_types_and_payloads(text: str, message: object, expected: dict[str, object]):
    assert bodies(text, message) == [expected]


@pytest.mark.parametrize(
    ("text", "message", "why"),
    [
        ('id = "id"', {"x": 1}, "the event has no id: nothing stands at id"),
        ('id = "id"', {"id": None}, "the event has no id: null stands at id"),
        ('id = "a.id"', {"a": "x"}, "the event has no id: nothing stands at a.id"),
        ('id = "id"', {"id": {"x": 1}}, "the event has no id: an object stands at id"),
        ('id = "id"', {"id": True}, "the event has no id: true or false stands at id"),
        ('id = "id"\npayload = "data"', {"id": 1}, "the event has no payload: nothing stands at data"),
        ('id = "id"\neach = "data[*]"', {"data": 1}, "no array stands at data[*]"),
        ('id = "id"\neach = "data[*]"', {"data": [1] * 101}, "the message carries more than 100 events"),
        ('id = "id"\nlines = true', b'{"id":1}\n' * 101, "the message carries more than 100 events"),
        (
            'id = "id"\neach = "data[*]"\nlines = true\ndecode = "zlib"',
            zlib.compress(b'{"data":[1,1,1,1,1,1]}\n' * 20),
            "the message carries more than 100 events",
        ),
        ('id = "id"', b"hello", "the message is not JSON"),
        ('id = "id"', b'{"id":1', "the message is not JSON"),
        ('id = "id"', b"\xff\xfe", "the message is not JSON"),
        ('id = "id"\ndecode = "gzip"', b"hello", "the message is not gzip"),
        ('id = "id"\ndecode = "zlib"', zlib.compress(b" " * 20_000), "more than 10,000 bytes unpacked"),
    ],
)
def test_a_message_without_an_id_becomes_an_invalid_event(text: str, message: object, why: str):
    (refused,) = read(text, message)
    assert isinstance(refused, Refused)
    assert why in refused.why
    with pytest.raises(InvalidEvent, match=why.partition(":")[0].replace("[*]", "")):
        parse_event(refused_body(refused), max_bytes=100_000)


def test_a_fraction_keeps_its_digits_in_an_id():
    assert bodies('id = "ts"', b'{"ts":1355517523.000005000}')[0]["event_id"] == "1355517523.000005000"


def test_large_numbers_keep_their_digits():
    number = 123456789012345678901234567890
    assert bodies('id = "id"', {"id": number})[0]["event_id"] == str(number)


def test_keep_and_drop_decide_what_is_control():
    keep = 'keep = { type = ["a", "b"], "x.y" = "*" }\nid = "id"'
    assert bodies(keep, {"type": "a", "id": 1, "x": {"y": 0}})
    for control in (
        {"type": "c", "id": 1, "x": {"y": 0}},
        {"type": "a", "id": 1, "x": {"y": None}},
        {"id": 1},
        b"text",
        [1],
    ):
        assert read(keep, control) == []
    drop = 'drop = [{ type = "heartbeat" }, "pong"]\nid = "id"'
    assert read(drop, {"type": "heartbeat"}) == []
    assert read(drop, b"pong") == []
    assert bodies(drop, {"id": 1})
    assert read('keep = { n = [1, true] }\nid = "n"', {"n": 2}) == []


def test_several_events_in_one_message():
    text = 'each = "events[*].trades[*]"\nid = "{$.channel}:{id}"\ntype = "$.channel"'
    message = {"channel": "t", "events": [{"trades": [{"id": 1}, {"id": 2}]}, {"none": 0}, {"trades": [{"no": 3}]}]}
    found = read(text, message)
    assert [one.id for one in found if isinstance(one, FeedEvent)] == ["t:1", "t:2"]
    assert [one.raw for one in found if isinstance(one, Refused)] == [b'{"no":3}'.replace(b":", b": ")]
    assert [one["event_id"] for one in bodies('lines = true\nid = "id"', b'{"id":1}\n\n{"id":2}\r\n')] == ["1", "2"]
    assert bodies('each = "[*].d"\nid = "id"', [{"d": {"id": 1}}, {}]) == [{"event_id": "1", "payload": {"id": 1}}]


@pytest.mark.parametrize(
    "repeated", ['payload = "$.big"', 'type = "$.big"', 'cursor = "$.big"\nresume = { query = "c" }']
)
def test_events_that_repeat_a_large_part_of_their_message_are_one_letter(repeated: str):
    text = f'each = "data[*]"\nid = "id"\n{repeated}'
    small = {"big": "x" * 30, "data": [{"id": number} for number in range(99)]}
    assert len(bodies(text, small)) == 99
    large = {"big": "x" * 8_000, "data": [{"id": number} for number in range(6)]}
    (refused,) = read(text, large)
    assert isinstance(refused, Refused)
    assert refused.why == "the events of the message have more than 4 times as many bytes as it may have"
    assert json.loads(refused.raw) == large


def test_lines_whose_events_repeat_a_part_of_them_are_one_letter():
    line = json.dumps({"big": "x" * 500, "data": [{"id": number} for number in range(19)]}).encode()
    (refused,) = read('lines = true\neach = "data[*]"\nid = "id"\ntype = "$.big"', b"\n".join([line] * 5))
    assert isinstance(refused, Refused)
    assert refused.why == "the events of the message have more than 4 times as many bytes as it may have"


def test_compressed_messages_are_unpacked():
    assert bodies('decode = "gzip"\nid = "id"', gzip.compress(b'{"id":1}'))[0]["event_id"] == "1"
    packed = zlib.compressobj(wbits=-15)
    assert bodies('decode = "deflate"\nid = "id"', packed.compress(b'{"id":1}') + packed.flush())


def test_bytes_after_a_packed_text_are_never_dropped():
    one, two = gzip.compress(b'{"id":1}\n'), gzip.compress(b'{"id":2}\n')
    lines = 'lines = true\nid = "id"\n'
    assert [event["event_id"] for event in bodies(lines + 'decode = "gzip"', one + two)] == ["1", "2"]
    for text, message, why in (
        ("gzip", one + b"rest", "the message is not gzip"),
        ("gzip", one + two[:-3], "cut off"),
        ("gzip", gzip.compress(b" " * 6_000) * 2, "more than"),
        ("gzip", gzip.compress(b"") * 101, "more than 100 gzip members"),
        ("zlib", zlib.compress(b'{"id":1}') * 2, "bytes follow the zlib text"),
    ):
        (refused,) = read(f'{lines}decode = "{text}"', message)
        assert isinstance(refused, Refused)
        assert why in refused.why


def test_one_whole_zstd_frame_is_unpacked_and_anything_else_is_refused():
    text = 'lines = true\ndecode = "zstd"\nid = "id"'
    for sized in (True, False):
        pack = zstandard.ZstdCompressor(write_content_size=sized).compress
        frame = pack(b'{"id":1}\n{"id":2}')
        assert [event["event_id"] for event in bodies(text, frame)] == ["1", "2"]
        for message in (frame * 2, frame + b"x", frame[:-3], pack(b" " * 20_000), b"hello"):
            (refused,) = read(text, message)
            assert isinstance(refused, Refused), (sized, message)


def test_lines_may_end_with_carriage_returns_or_not_at_all():
    text = 'lines = true\nid = "id"\nkeep = { id = "*" }\nreply = [{ when = "ping", send = "pong" }]'
    actions = read(text, b'{"id":\r1}\r\nping\r\n{"id":2}')
    assert [one.id for one in actions if isinstance(one, FeedEvent)] == ["1", "2"]
    assert [one.text for one in actions if isinstance(one, Send)] == ["pong"]


def test_a_packed_answer_to_a_subscription_is_recognized():
    one = mapping('open = [{ send = "x", wait = { ok = true } }]\nid = "id"\ndecode = "gzip"')
    assert one.answers(0, gzip.compress(b'{"ok":true}'))
    assert not one.answers(0, b'{"ok":true}')


def test_replies_and_heartbeats_take_values_and_escape_them():
    reply = """reply = [{ when = { op = "ping" }, send = '{"op":"pong","n":"{n}","m":{m}}' }]"""
    reply += '\nkeep = { op = "x" }\nid = "id"'
    (send,) = read(reply, {"op": "ping", "n": 'a"b\\', "m": {"k": 1}})
    assert isinstance(send, Send)
    assert json.loads(send.text) == {"op": "pong", "n": 'a"b\\', "m": {"k": 1}}
    beat = (
        """heartbeat = { every = "d.every", unit = "ms", send = '{"op":1,"d":{s}}' }\nkeep = { op = 0 }\nid = "id\""""
    )
    assert read(beat, {"op": 10, "d": {"every": 41250}}) == [Beat(41.25)]
    assert read(beat, {"op": 10, "d": {"every": "never"}}) == []
    kept = mapping(beat)
    list(kept.read(b'{"op":0,"id":1,"s":7}'))
    list(kept.read(b'{"op":11,"s":null}'))
    assert kept.remembered() == {("s",): 7}


def test_the_end_of_a_connection():
    text = 'again = { type = "reconnect", url = "to.url" }\nstop_on = [{ type = "error" }]\n'
    text += 'keep = { type = "x" }\nid = "id"'
    (again,) = read(text, {"type": "reconnect", "to": {"url": "wss://y/"}})
    assert isinstance(again, Again)
    assert again.url == "wss://y/"
    (stop,) = read(text, {"type": "error", "message": "no such product"})
    assert isinstance(stop, Stop)
    assert "no such product" in stop.why


def test_acknowledgements():
    text = """ack = '{"envelope_id":"{e}"}'\nkeep = { type = "x" }\nid = "id\""""
    assert read(text, {"type": "x", "id": 1, "e": "E1"})[0] == Receipt('{"envelope_id":"E1"}')
    ack = Send('{"envelope_id":"E1"}', acknowledges=True)
    assert read(text, {"type": "y", "e": "E1"}) == [ack], "nothing is stored, nothing waits"
    assert read(text, {"type": "hello"}) == []
    at_once = text.replace("ack = '", "ack = { at_once = true, send = '").replace("}'", "}' }")
    assert read(at_once, {"type": "x", "id": 1, "e": "E1"})[0] == ack


def test_numbers_of_control_messages_count_too():
    text = 'keep = { type = "match" }\nid = "n"\nsequence = { by = "p", at = "n" }'
    assert read(text, {"type": "last_match", "n": "7", "p": "x"}) == [Numbered(("x", 7))]
    (event,) = read(text, {"type": "match", "n": 8, "p": "x"})
    assert isinstance(event, FeedEvent)
    assert event.sequence == ("x", 8)
    assert read(text, {"type": "last_match", "n": "many", "p": "x"}) == []
    each = 'each = "e[*]"\nid = "i"\nsequence = { at = "$.s" }'
    assert read(each, {"s": 4, "e": [{"i": 1}, {"i": 2}]})[0] == Numbered(("", 4))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "c"]), inner, max_size=3),
    max_leaves=12,
)
PATHS = ["a", "a.b", "a.b.c", "a[0]", "a[1].b", "b", "c.a", "[0].a", "[0]", "$", "$.a.b", "$[1]"]


@settings(deadline=None, max_examples=60)
@given(json_values, st.lists(st.sampled_from(PATHS), min_size=1, unique=True), st.sets(st.integers(0, 11)))
def test_fields_are_what_walking_through_the_decoded_message_finds(value: object, texts: list[str], raw: set[int]):
    encoded = msgspec.json.encode(value)
    found = Fields([path_of(text) for text in texts], raw).read(encoded)
    for at, text in enumerate(texts):
        expected = walked(value, text)
        got = msgspec.json.decode(found[at]) if at in raw and found[at] is not msgspec.UNSET else found[at]
        assert got == expected, text


def walked(value: object, text: str) -> object:
    for step in path_of(text):
        if isinstance(step, int):
            value = value[step] if isinstance(value, list) and step < len(value) else msgspec.UNSET
        else:
            value = value.get(step, msgspec.UNSET) if isinstance(value, dict) else msgspec.UNSET
    return value


@settings(deadline=None, max_examples=40)
@given(json_values)
def test_elements_are_never_an_error(value: object):
    for path in ("a[*]", "[*]", "a[*].b[*]", "a[*].b"):
        found = Elements(path_of(path)).of(msgspec.json.encode(value))
        assert found is None or all(msgspec.json.decode(one) is not ... for one in found)


WHOLE = {"a": {"b": "x"}, "kind": "k", "n": 7, "t": 1, "list": [{"i": 1}, {"i": 2}]}


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ('ack = \'{"id":"{$.a.b}"}\'', Receipt('{"id":"x"}')),
        ('reply = [{ when = { "$.kind" = "k" }, send = "{$.n}" }]', Send("7")),
        ('heartbeat = { every = "$.n", send = "x" }', Beat(7)),
        ('again = { when = { "$.kind" = "k" }, url = "$.a.b" }', Again(f"the feed sent {json.dumps(WHOLE)}", "x")),
    ],
)
def test_a_path_that_begins_at_the_whole_message_is_written_in_the_same_way_everywhere(text: str, sent: Action):
    assert sent in read(f'id = "$.a.b"\n{text}', WHOLE)


def test_conditions_and_arrays_begin_at_the_whole_message_too():
    of_items = 'each = "$.list[*]"\nid = "{$.a.b}:{i}"\nkeep = { "$.kind" = "k" }\npayload = "$.a"'
    assert bodies(of_items, WHOLE) == [{"event_id": f"x:{i}", "payload": {"b": "x"}} for i in (1, 2)]
    assert bodies('id = "$[1].i"\npayload = "$"', [0, {"i": 1}]) == [{"event_id": "1", "payload": [0, {"i": 1}]}]
    assert bodies("id = '\"$\".id'", {"$": {"id": 3}}) == [{"event_id": "3", "payload": {"$": {"id": 3}}}]


@pytest.mark.parametrize("number", [10**18, -(10**18), 10**400])
def test_a_number_that_no_gap_can_have_is_none(number: int):
    (event,) = read('id = "id"\nsequence = { at = "n" }', {"id": 1, "n": number})
    assert isinstance(event, FeedEvent)
    assert event.sequence is None


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (b'451-["picture",{"_placeholder":true,"num":0}]', "binary attachments; SOURCE=socketio://"),
        (b'42/orders,["sold",{"event_id":1}]', "another namespace; SOURCE=socketio://host:port/namespace"),
        (b'4213["sold",{"event_id":1}]', "asks for an acknowledgement; SOURCE=socketio://"),
    ],
)
def test_what_the_raw_profile_of_socketio_cannot_read_is_a_letter_that_names_the_source(message: bytes, why: str):
    (found,) = ProfileMapping(load("socketio", {}).profile).read(message)
    assert isinstance(found, Refused)
    assert why in found.why
    assert found.raw == message
    assert len(list(ProfileMapping(load("socketio", {}).profile).read(b'42["sold",{"event_id":1}]'))) == 1


@pytest.mark.parametrize(
    ("name", "environment", "message"),
    [
        ("socketio", {}, b"41"),
        ("phoenix", {}, b'["1",null,"room:lobby","phx_error",{}]'),
        ("graphql-transport-ws", {"GRAPHQL_URL": "ws://x/", "GRAPHQL_SUBSCRIPTION": "1", "GRAPHQL_FIELD": "f"},
         b'{"id":"unlost","type":"complete"}'),
    ],
)  # fmt: skip
def test_a_feed_that_has_ended_the_subscription_has_missed_events(
    name: str, environment: dict[str, str], message: bytes
):
    found = [type(one) for one in ProfileMapping(load(name, environment).profile).read(message)]
    assert found == [Missed, Again]


def test_conditions_of_answers_take_values_from_outside_when_the_profile_is_read():
    text = """url = "wss://x/"
keep = { type = "x" }
id = "id"
open = [{ send = "sub", wait = { topic = "${TOPIC}" } }]
reply = [{ when = { for = ["${TOPIC}"] }, send = "pong" }]"""
    one = ProfileMapping(parse(text, "x", {"TOPIC": "trades"}).profile)
    assert one.answers(0, b'{"topic":"trades"}')
    assert not one.answers(0, b'{"topic":"${TOPIC}"}')
    assert one.read(b'{"for":"trades"}') == [Send("pong")]
