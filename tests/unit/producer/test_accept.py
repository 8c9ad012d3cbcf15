"""The form of a published body."""

import json

import pytest

from unlost.listener.core.event import parse
from unlost.producer.journal.publications import Lines
from unlost.producer.publish.accept import NotAccepted, plain_index, publication, wrapped

LIMIT = 10_000_000
BAD = {
    "no JSON": b"hello",
    "empty": b"",
    "array": b"[1]",
    "number": b"1",
    "id is a number": b'{"event_id":1,"payload":1}',
    "id is null": b'{"event_id":null,"payload":1}',
    "id is empty": b'{"event_id":"","payload":1}',
    "id is huge": b'{"event_id":"' + b"x" * 257 + b'","payload":1}',
    "id holds U+0000": b'{"event_id":"a\\u0000","payload":1}',
    "id is a lone surrogate": b'{"event_id":"\\ud800","payload":1}',
    "U+0000": b'{"event_id":"a","payload":"\\u0000"}',
    "no UTF-8": b'{"event_id":"a","payload":"\xff"}',
    "NaN": b'{"event_id":"a","payload":NaN}',
    "deep": b'{"event_id":"a","payload":' + b"[" * 200_000 + b"]" * 200_000 + b"}",
    "open brackets": b"[" * 200_000,
    "names twice": b'{"event_id":"a","payload":{"x":1,"x":2}}',
    "cursor": b'{"event_id":"a","payload":1,"cursor":"x"}',
    "null cursor": b'{"event_id":"a","payload":1,"cursor":null}',
    "escaped cursor": b'{"event_id":"a","payload":1,"\\u0063ursor":"x"}',
    "two objects": b'{"event_id":"a"}{"event_id":"b"}',
}


@pytest.mark.parametrize("body", BAD.values(), ids=BAD.keys())
def test_refuses_what_is_no_event_with_a_reason(body: bytes) -> None:
    with pytest.raises(NotAccepted) as refusal:
        publication(body, max_bytes=LIMIT)
    assert refusal.value.status == "invalid"
    assert str(refusal.value)


@pytest.mark.parametrize("body", BAD.values(), ids=BAD.keys())
def test_an_invalid_event_is_never_read_along_with_others(body: bytes) -> None:
    good = b'{"event_id":"a","payload":1}'
    assert plain_index(b"\n".join([good, body, good]), max_bytes=LIMIT) is None


@pytest.mark.parametrize("line", [b"", b" ", b" %b", b"%b\t", b"%b\r"])
def test_a_line_with_outer_blanks_is_never_read_along_with_others(line: bytes) -> None:
    good = b'{"event_id":"a","payload":1}'
    line = line.replace(b"%b", good)
    for lines in ([good, line, good], [line, good], [good, line]):
        assert plain_index(b"\n".join(lines), max_bytes=LIMIT) is None


def test_reads_many_plain_lines_as_each_of_them() -> None:
    lines = [b'{"event_id":"%d","type":"t","payload":{"n":%d}}' % (number, number) for number in range(20)]
    text = b"\n".join(lines)
    index = plain_index(text, max_bytes=LIMIT)
    assert index is not None
    assert list(Lines(text, index)) == [publication(line, max_bytes=LIMIT) for line in lines]
    assert Lines(text, index).size == sum(map(len, lines))
    assert plain_index(text, max_bytes=10) is None


def test_refuses_what_is_too_large() -> None:
    with pytest.raises(NotAccepted) as refusal:
        publication(b'{"event_id":"a","payload":1}', max_bytes=10)
    assert refusal.value.status == "too_large"


@pytest.mark.parametrize("body", [b'{"payload": 1}', b"{}", b' {\n"type":"x"\r\n} '])
def test_adds_the_id_that_is_missing_and_keeps_one_line(body: bytes) -> None:
    one = publication(body, max_bytes=LIMIT)
    assert json.loads(one.body) == {"event_id": one.event_id, **json.loads(body)}
    assert b"\n" not in one.body


def test_wraps_any_object_under_the_hash_of_its_content() -> None:
    one = wrapped(b'{"b": 1, "a": {"cursor": 2}, "cursor": 3}', max_bytes=LIMIT)
    again = wrapped(b'{"cursor":3,"a":{"cursor":2},"b":1}', max_bytes=LIMIT)
    assert one.event_id == again.event_id
    assert json.loads(one.body)["payload"] == {"b": 1, "a": {"cursor": 2}, "cursor": 3}
    assert wrapped(b'{"b":1,"a":{"cursor":2},"cursor":4}', max_bytes=LIMIT).event_id != one.event_id


@pytest.mark.parametrize(
    "body",
    [b"[]", b"1", b"", b'{"a":1},"type":"z"', b'{"cursor":1},"x":{}', b'{"cursor":', b"{" * 100_000, b'{"a":NaN}'],
)
def test_wraps_nothing_but_one_object(body: bytes) -> None:
    with pytest.raises(NotAccepted):
        wrapped(body, max_bytes=LIMIT)


def test_wrapped_objects_that_differ_in_an_escaped_cursor_are_two() -> None:
    one, other = (wrapped(b'{"\\u0063ursor":%d}' % number, max_bytes=LIMIT) for number in (1, 2))
    assert one.event_id != other.event_id


@pytest.mark.parametrize(
    "body",
    [
        b'{"x": 1, "y": {"z": [1, 2]}}', b'{"payload": {"x": 1}}', b'{"type": "t", "x": 1}',
        b'{"event_id": "a", "x": 1}',
        b'{"event_type": "t", "x": 1}', b'{"event_type": "t", "payload": 1, "region": "eu"}', b"{}", b'{\n"x": 1\n}',
    ],
)  # fmt: skip
def test_both_ways_in_make_the_same_event_of_an_object(body: bytes) -> None:
    assert wrapped(body, max_bytes=LIMIT) == publication(body, max_bytes=LIMIT)


@pytest.mark.parametrize("field", [b'"event_type"', b'"event\\u005ftype"'])
def test_event_type_is_the_type_of_an_event_that_has_no_other(field: bytes) -> None:
    one = parse(publication(b"{%b: %b}" % (field, b'"order.created"'), max_bytes=LIMIT).body, max_bytes=LIMIT)
    assert (one.type, json.loads(one.payload)) == ("order.created", {"event_type": "order.created"})
    other = parse(publication(b'{"type":"a","payload":1,%b:"b"}' % field, max_bytes=LIMIT).body, max_bytes=LIMIT)
    assert other.type == "a"


@pytest.mark.parametrize("value", [b"5", b"null", b'"' + b"x" * 257 + b'"', b'{"a":1}'])
def test_an_event_type_that_can_be_no_type_is_an_ordinary_field(value: bytes) -> None:
    one = publication(b'{"event_id":"a","event_type":%b}' % value, max_bytes=LIMIT)
    assert parse(one.body, max_bytes=LIMIT).type is None
