"""Whether two bodies are the same event: the parts that the contract of journals does not ask about."""

import pytest

from unlost.listener.core.event import MAX_ID_CHARACTERS
from unlost.producer.journal.content import same_value

LONGEST = b"t" * MAX_ID_CHARACTERS


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (b'"event_type":"t"', b'"event_type":"t","type":"t"', True),
        (b'"event_type":"t"', b'"event_type":"t","type":"u"', False),
        (b'"event_type":"t","type":"u"', b'"type":"u","event_type":"t"', True),
        (b'"event_type":"t","type":null', b'"event_type":"t"', False),
        (b'"event_type":5', b'"event_type":5', True),
        (b'"event_type":5', b'"event_type":5,"type":5', False),
        (b'"event_type":"%b"' % LONGEST, b'"event_type":"%b","type":"%b"' % (LONGEST, LONGEST), True),
        (b'"event_type":"%bt"' % LONGEST, b'"event_type":"%bt","type":"%bt"' % (LONGEST, LONGEST), False),
    ],
    ids=str,
)
def test_event_type_is_the_type_where_it_can_be_one_and_there_is_no_other(one: bytes, other: bytes, same: bool) -> None:
    first, second = [b'{"event_id":"a","payload":1,%b}' % fields for fields in (one, other)]
    assert same_value(first, second) is same
    assert same_value(second, first) is same


@pytest.mark.parametrize("body", [b"{", b"[" * 100_000, b"\xff"])
def test_unreadable_bodies_equal_nothing(body: bytes) -> None:
    assert not same_value(body, body)
