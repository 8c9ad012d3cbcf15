"""Some bodies are events, others are not, and the reason is stated. An event is not changed on the way in."""

import json

import pytest

from unlost.listener.core.errors import InvalidEvent
from unlost.listener.core.event import decode, parse

LIMIT = 4_096


def event(text: str | bytes):
    return parse(text.encode() if isinstance(text, str) else text, max_bytes=LIMIT)


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (b"no json", "not JSON"),
        (b"", "not JSON"),
        (b"[1]", "another JSON value"),
        (b'"text"', "another JSON value"),
        (b"\xff\xfe", "not UTF-8"),
        (b'{"payload":"\xff"}', "not UTF-8"),
        (b'{"event_id":7,"payload":1}', "must be a string"),
        (b'{"event_id":null,"payload":1}', "must be a string"),
        (b'{"event_id":"","payload":1}', "0 characters"),
        (b'{"event_id":"' + b"x" * 257 + b'","payload":1}', "257 characters"),
        (b'{"event_id":"a\\u0000b","payload":1}', "U+0000"),
        (b'{"event_id":"a","payload":"\\u0000"}', "\\u0000"),
        (b'{"event_id":"a","payload":{"\\u0000":1}}', "\\u0000"),
        (b'{"event_id":"a","payload":"\\ud800"}', "not JSON"),
        (b'{"event_id":"a","payload":NaN}', "not JSON"),
        (b'{"event_id":"a","payload":Infinity}', "not JSON"),
        (b'{"payload":1e999999}', "out of range"),
        (b'{"event_id":"a","event_id":"b"}', '"event_id" occurs twice'),
        (b'{"event_id":"a","payload":{"n":1,"n":2}}', '"n" occurs twice'),
        (b'{"event_id":"a","payload":[{"n":1,"n":"\\u003a"}]}', '"n" occurs twice'),
        (b'{"event_id":"a","payload":[{"n":1,"n":"\\u003A"}]}', '"n" occurs twice'),
        (b'{"event_id":"a","payload":{"n":1,"\\u006e":"\\u00e9"}}', '"n" occurs twice'),
        (b'{"event_id":"a","type":5}', "type must be a string"),
        (b'{"event_id":"a","payload":01}', "not JSON"),
        (b'{"event_id":"a","payload":1} x', "not JSON"),
        (b'{"event_id":"a","payload":"' + b"x" * LIMIT + b'"}', "are allowed"),
    ],
)
def test_a_bad_frame_is_refused_with_its_reason(frame: bytes, reason: str):
    with pytest.raises(InvalidEvent) as refused:
        event(frame)
    assert reason in str(refused.value)


def test_two_hundred_thousand_brackets_are_refused_and_not_a_crash():
    with pytest.raises(InvalidEvent, match="nested too deeply"):
        parse(b'{"event_id":"a","payload":' + b"[" * 200_000, max_bytes=1 << 20)


def test_a_readable_id_is_kept_with_the_refusal():
    with pytest.raises(InvalidEvent) as refused:
        event('{"event_id":"a","payload":{"n":1,"n":2}}')
    assert refused.value.event_id == "a"


def test_the_payload_stays_the_sources_own_text():
    one = event('{"event_id": "a", "payload": {"big": 12345678901234567890.10, "s": "\\u00e9\\ud83d\\ude00"} }')
    assert one.payload == b'{"big": 12345678901234567890.10, "s": "\\u00e9\\ud83d\\ude00"}'


def test_other_fields_are_kept():
    one = event('{"event_id":"a","type":"t","payload":1,"region":"eu"}')
    assert (one.event_id, one.type) == ("a", "t")
    assert json.loads(one.other or b"") == {"region": "eu"}
    assert json.loads(one.on_one_line()) == {"event_id": "a", "type": "t", "payload": 1, "region": "eu"}


def test_an_object_without_payload_is_its_own_payload():
    assert json.loads(event('{"event_id":"a","price":3}').payload) == {"price": 3}


def test_without_an_id_equal_values_have_equal_ids_however_they_are_spelt():
    first = event('{"payload":{"a":1,"b":[true]}}')
    second = event('{ "payload": {"b":[true],"a":1} }')
    assert first.event_id == second.event_id
    assert first.event_id != event('{"payload":{"a":2,"b":[true]}}').event_id


def test_a_line_holds_the_whole_event():
    one = event('{\n "event_id": "a",\r\n "payload": "x\\ny"\n}')
    assert b"\n" not in one.on_one_line()
    assert json.loads(one.on_one_line()) == {"event_id": "a", "payload": "x\ny"}


def test_decoding_for_a_handler():
    assert decode(b'{"a":[1,2.5,null]}') == {"a": [1, 2.5, None]}
    with pytest.raises(InvalidEvent):
        decode(b"1e999999")
