"""The cursor of an event stands beside its body."""

import pytest

from unlost.listener.core.event import parse
from unlost.listener.source.stream.envelope import split

BODY = b'{"event_id":"a","type":"t","payload":1,"region":"eu"}'


@pytest.mark.parametrize(("frame", "cursor"), [
    (b'{"event_id":"a","type":"t","payload":1,"region":"eu","cursor":"j.7"}', "j.7"),
    (b'{"cursor":"j.7","event_id":"a","type":"t","payload":1,"region":"eu"}', "j.7"),
    (b'{"event_id":"a","type":"t","payload":1,"region":"eu","cursor":42}', "42"),
    (b'{"event_id":"a","type":"t","payload":1,"region":"eu","\\u0063ursor":"j.7"}', "j.7"),
    (b'{"event_id":"a","type":"t","payload":1,"region":"eu","cursor":"' + b"9" * 257 + b'"}', None),
    (b'{"event_id":"a","type":"t","payload":1,"region":"eu","cursor":null}', None),
    (BODY, None),
])  # fmt: skip
def test_it_is_not_content(frame: bytes, cursor: str | None):
    batch = split([frame])
    assert batch.cursors == [cursor]
    assert parse(batch.bodies[0], max_bytes=1_000).digest == parse(BODY, max_bytes=1_000).digest


def test_one_that_needs_care_changes_nothing_for_the_others():
    plain, nested = (
        b'{"event_id":"a","payload":1,"cursor":"j.7"}',
        b'{"event_id":"b","payload":{"cursor":1},"cursor":"j.8"}',
    )
    for ours in (True, False):
        batch = split([plain, nested, BODY], ours=ours)
        assert batch.cursors == ["j.7", "j.8", None]
        assert batch.bodies == [b'{"event_id":"a","payload":1}', b'{"event_id":"b","payload":{"cursor":1}}', BODY]


@pytest.mark.parametrize("frame", [
    b"", b"[]", b"no json", b'{"event_id":"a","payload":{"cursor":"j.7"}}', b'{"event_id":"a"',
    b'{"cursor":"j.1","payload":1,"cursor":"j.2"}', b'"cursor"', b'abc"}', b'{"payload":",\\"cursor\\":\\"j.1\\""}',
])  # fmt: skip
def test_anything_else_stays_as_it_is(frame: bytes):
    assert (split([frame]).bodies, split([frame]).cursors) == ([frame], [None])
