"""Any input from outside is either read, or refused with a reason. No input causes any other error."""

import json
from contextlib import suppress
from itertools import accumulate

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from unlost.listener.app.settings import ListenerSettings
from unlost.listener.core.bulk import plain_events
from unlost.listener.core.errors import InvalidEvent
from unlost.listener.core.event import Event, parse, read_plainly, read_with_care
from unlost.listener.source.stream.envelope import split
from unlost.listener.source.stream.handshake import source_name
from unlost.ops.kit.command import UsageProblem
from unlost.producer.app.settings import ProducerSettings
from unlost.producer.journal.publications import Lines
from unlost.producer.journal.timelines import Timeline, Timelines
from unlost.producer.publish.accept import NotAccepted, plain_index, publication, wrapped
from unlost.producer.stream.messages import frame_of

LIMIT = 100_000
SEEDS = [
    b'{"event_id":"e","payload":{"n":1.50,"t":"\\u00e9"},"type":"t","region":["eu",null,true]}',
    b'{"payload":[],"cursor":"j.1"}',
    b' {"event_id" : "a\\"b\\\\", "payload" : -0.0e-10 }\n',
]
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4)
)
objects = st.dictionaries(st.text(max_size=12) | st.sampled_from(["event_id", "payload", "type", "cursor"]), values)


marks = st.sampled_from([b'"', b"{", b"}", b"\\"])


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A good event with a few bytes changed, removed or inserted."""
    text = bytearray(draw(st.sampled_from(SEEDS) | objects.map(lambda one: json.dumps(one).encode())))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(text)))
        text[at : at + draw(st.integers(0, 3))] = draw(
            st.binary(max_size=3) | st.sampled_from([b'"', b"{", b"}", b"\\"])
        )
    return bytes(text)


frames = st.binary(max_size=200) | damaged()
plain_fields = st.tuples(
    st.sampled_from(["event_id", "payload", "type", "cursor", "\\u0063ursor", "\\u0074ype"]),
    st.sampled_from(
        ['"e"', '":"', '{"a":1,"b":{"a":":"}}', "null", '"\\u003a\\u003A"', '"\\u00e9"', '"\\u0000"', '""']
    ),
)


@st.composite
def damaged_plainly(draw: st.DrawFn) -> bytes:
    """Only the plain field names, some of them twice, with values of every kind."""
    fields = [("event_id", '"e"'), ("payload", "1"), *draw(st.lists(plain_fields, max_size=4))]
    return ("{" + ",".join(f'"{name}":{value}' for name, value in draw(st.permutations(fields))) + "}").encode()


@given(frames)
@settings(max_examples=300, deadline=None)
@example(b'{"event_id":"e","payload":1,"\\u0063ursor":"x"}')
@example(b"[" * 10_000)
def test_a_frame_is_an_event_or_invalid(frame: bytes):
    with suppress(InvalidEvent):
        is_whole(parse(frame, max_bytes=LIMIT))


@given(frames | damaged_plainly())
@settings(max_examples=300, deadline=None)
@example(b'{"event_id":"e","payload":{"a":1,"a":2}}')
@example(b'{"event_id":"e","event_id":":","payload":1}')
@example(b'{"event_id":"e","payload":{"a":1},"payload":":"}')
@example(b'{"event_id":"e","payload":1,"type":null,"cursor":"a:b"}')
@example(b'{"event_id":"e","payload":"\xed\xa0\x80"}')
@example(b'{"event_id":"\\u00e9","payload":{"\\u0061":"\\u00fc"},"type":"\\u00df"}')
@example(b'{"event_id":"e","payload":{"a":"\\u003a","a":2}}')
@example(b'{"event_id":"e","payload":{"a":"\\u003A","\\u0061":2}}')
@example(b'{"event_id":"e","payload":{"a":1,"\\u0061":2}}')
@example(b'{"event_id":"e","payload":"\\u0000"}')
@example(b'{"event_id":"e\\u0000","payload":1}')
@example(b'{"event_id":"e","payload":1,"\\u0063ursor":"x"}')
@example(b'{"event_id":"e","\\u0065vent_id":"f","payload":1}')
@example(b'{"event_id":"e","payload":1e999999}')
def test_a_plain_event_is_read_as_with_care(frame: bytes):
    read = read_plainly(frame)
    if read is not None:
        event, names = read
        careful, all_names = read_with_care(frame)
        assert event == careful
        assert {"event_id", "cursor"} & set(names) == {"event_id", "cursor"} & set(all_names)


plain_frames = st.builds(
    lambda event_id, kind, payload: json.dumps(
        {"event_id": event_id, "payload": payload} | ({"type": kind} if kind != "" else {})
    ).encode(),
    st.text("aé:", min_size=1, max_size=3),
    st.none() | st.text("aé:", max_size=3),
    values,
)

cursor_frames = st.builds(
    lambda frame, cursor: frame[:-1] + b',"cursor":' + json.dumps(cursor).encode() + b"}", plain_frames, values
)


@given(st.lists(plain_frames | damaged_plainly() | frames, max_size=5))
@settings(max_examples=300, deadline=None)
@example([b'{"event_id":"e","payload":1}', b'{"event_id":"f","payload":{"a":1},"type":"t","cursor":"j.1"}'])
@example([b'{"event_id":"e","payload":{"a":1,"a":2}}', b'{"event_id":":","payload":":::"}'])
@example([b'{"event_id":"e","payload":[1', b"2]}", b'{"event_id":"e","payload":1}{"event_id":"f","payload":1}'])
@example([b'{"event_id":"e",\n"payload":1}', b'\n{"event_id":"f","payload":1}\n'])
@example([b'{"event_id":"e","payload":"' + b"x" * LIMIT + b'"}', b'{"event_id":"f","payload":1}'])
def test_events_read_together_are_those_read_one_by_one(some: list[bytes]):
    together = plain_events(some, max_bytes=LIMIT)
    if together is not None:
        alone = [parse(frame, max_bytes=LIMIT) for frame in some]
        assert together == alone


@given(st.lists(plain_frames.filter(lambda frame: b"\\u00" not in frame), max_size=5))
@settings(deadline=None)
def test_plain_events_are_read_together(some: list[bytes]):
    assert plain_events(some, max_bytes=LIMIT) is not None


@given(cursor_frames | plain_frames | damaged_plainly() | frames, st.sampled_from([b"", b" ", b"}"]))
@settings(max_examples=300, deadline=None)
@example(b'{"event_id":"e","payload":{"a":1,"cursor":"j.1"}}', b"")
@example(b'{"event_id":"e","payload":",\\"cursor\\":\\"j.1\\""}', b"")
@example(b'{"event_id":"e","payload":1,"cursor":"j.1"}', b"")
@example(b'{"cursor":"a","event_id":"e","payload":1,"cursor":"b"}', b"")
@example(b'{"event_id":"e","payload":1,"cursor":{"a":1}}', b"")
@example(b'{"event_id":"e","payload":1,"cursor":null}', b"")
@example(b'{"cursor":"j.1"}', b"")
@example(b'abc"}', b"")
def test_a_cursor_stands_beside_the_body_and_nothing_else_is_changed(frame: bytes, more: bytes):
    """Held to the standard library's parser."""
    whole = frame + more
    (body,), (cursor,) = split([whole]).bodies, split([whole]).cursors
    if b'"cursor"' not in whole[:-1].rpartition(b',"cursor"')[0]:
        assert split([whole], ours=True) == split([whole]), "what our producer sends is split alike"
    try:
        read_with_care(whole)
    except InvalidEvent:
        if cursor is not None:
            with pytest.raises(InvalidEvent):
                read_with_care(body)
        return
    fields = json.loads(whole)
    placed = fields.pop("cursor", None)
    assert json.loads(body) == fields
    if cursor is not None:
        assert placed == (cursor if isinstance(placed, str) else json.loads(cursor))
    else:
        assert placed is None or len(whole) > 256, "of a cursor that is too long, nothing is kept"
    assert body == whole or b'"cursor"' in whole or b"\\u" in whole


def is_whole(event: Event) -> None:
    assert 1 <= len(event.event_id) <= 256
    json.loads(event.payload)
    again = parse(event.on_one_line(), max_bytes=LIMIT)
    assert (again.event_id, again.digest) == (event.event_id, event.digest)


@given(frames)
@settings(max_examples=400, deadline=None)
def test_every_listener_can_read_what_the_producer_accepts(body: bytes):
    for accept in (publication, wrapped):
        with suppress(NotAccepted):
            accepted = accept(body, max_bytes=LIMIT)
            assert b"\n" not in accepted.body
            sent = split([frame_of(accepted.body, Timelines(JOURNAL, [Timeline(1, "0000000a", 1)]).cursor(1))])
            event = parse(sent.bodies[0], max_bytes=2 * LIMIT)
            assert (event.event_id, event.digest) == (accepted.event_id, accepted.digest)
            assert (sent.bodies, sent.cursors) == ([accepted.body], [f"{JOURNAL}.t1-0000000a.1"])


@given(st.lists(damaged_plainly() | frames.map(bytes.strip).filter(lambda line: b"\n" not in line), max_size=5))
@settings(max_examples=300, deadline=None)
@example([b'{"event_id":"e","payload":1}', b'{"event_id":"f","payload":{"a":1},"type":"t"}'])
@example([b'{"event_id":"e","payload":{"a":1,"a":2}}', b'{"event_id":":","payload":":::"}'])
@example([b'{"event_id":"e","payload":[1', b"2]}", b'{"event_id":"e","payload":1}{"event_id":"f","payload":1}'])
@example([b'{"event_id":"e","payload":1\r}'])
@example([b'{"event_id":"e","payload":1,"type":""}', b'{"event_id":"f","payload":1,"type":null}'])
@example([b'{"event_id":"e","payload":1,"cursor":"x"}'])
@example([b'{"event_id":"e","payload":1,"\\u0063ursor":"x"}'])
@example([b'{"event_id":"\\u00e9","payload":"\\u00fc"}', b'{"event_id":"e","payload":{"\\u0061":1,"a":"\\u003a"}}'])
def test_many_lines_are_read_as_each_of_them(lines: list[bytes]):
    text = b"\n".join(lines)
    read = plain_index(text, max_bytes=LIMIT)
    if read is not None:
        assert list(Lines(text, read)) == [publication(line, max_bytes=LIMIT) for line in text.split(b"\n")]


JOURNAL = "0123456789ab"
parts_of_cursors = st.one_of(
    st.text(max_size=10), st.integers(0, 10**19).map(str), st.sampled_from((JOURNAL, ".t", "-", "0000000a", "."))
)


@given(
    st.lists(parts_of_cursors, max_size=7).map("".join), st.lists(st.integers(0, 50), min_size=1), st.integers(0, 99)
)
@example(f"{JOURNAL}.t1-0000000a.٣", [0], 0)
@example(f"{JOURNAL}.t1-0000000a.1" + "0" * 400, [0], 0)
def test_a_cursor_is_known_or_unknown(text: str, lengths: list[int], oldest: int):
    """For any cursor, reading goes on wherever something is left, and nothing is skipped silently."""
    firsts = list(accumulate(lengths, initial=1))
    timelines = Timelines(JOURNAL, [Timeline(one, "0000000a", first) for one, first in enumerate(firsts, 1)])
    bounds = (min(oldest, firsts[-1]), firsts[-1])
    start = timelines.start_after(text, bounds)
    assert bounds[0] <= start.number <= bounds[1]
    assert not start.is_known or timelines.cursor(start.number) == text or text.endswith(str(start.number))
    for number in range(bounds[0], bounds[1] + 1):
        assert timelines.number_of(timelines.cursor(number), bounds) == number


@given(st.dictionaries(st.sampled_from(sorted(ListenerSettings.model_fields)), st.text(max_size=30), max_size=6))
@settings(max_examples=100, deadline=None)
def test_settings_are_right_or_each_mistake_is_reported(given_: dict[str, str]):
    with suppress(UsageProblem):
        assert ListenerSettings.load(given_).stream().name


@given(st.dictionaries(st.sampled_from(sorted(ProducerSettings.model_fields)), st.text(max_size=30), max_size=6))
@settings(deadline=None)
def test_the_producers_settings_too(given_: dict[str, str]):
    with suppress(UsageProblem):
        ProducerSettings.load(given_)


@given(st.text(max_size=60))
def test_a_source_has_a_name_without_its_credentials(text: str):
    url = f"ws://user:secret@host/{text}"
    with suppress(ValueError):
        assert "secret" not in source_name(url)
