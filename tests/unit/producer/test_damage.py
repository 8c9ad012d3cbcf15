"""An entry that the disk changed is not taken for the accepted one."""

import random

import pytest
from structlog.testing import capture_logs

from unlost.listener.core.errors import InvalidEvent
from unlost.listener.core.event import parse
from unlost.producer.journal.damage import damaged_of
from unlost.producer.journal.port import Entry
from unlost.producer.publish.accept import publication
from unlost.producer.stream.damage import MOST_NAMED, DamagedEntries

BODIES = (
    b'{"event_id":"e","payload":{"total":12}}',
    b'{"event_id":"e","type":"t","payload":[1,"x"]}',
    b'{"event_id":"e","payload":1,"other":"kept"}',
    b'{\n"payload": {\n"a":\r\n1}, "event_id": "e"}\n',
    b'{"payload":"without an id"}',
    b'{"no":"payload"}',
)


def entry(body: bytes, number: int = 1) -> Entry:
    one = publication(body, max_bytes=10_000)
    return Entry(number, one.event_id, one.digest, one.body, 0.0)


@pytest.mark.parametrize("body", BODIES)
def test_an_accepted_entry_is_whole(body: bytes) -> None:
    assert damaged_of([entry(body)]) == []
    assert damaged_of([entry(one, number) for number, one in enumerate(BODIES)]) == []


@pytest.mark.parametrize("body", BODIES)
def test_no_changed_byte_becomes_another_event(body: bytes) -> None:
    whole, rng = entry(body), random.Random(1)
    original = parse(whole.body, max_bytes=10_000)
    for place in range(len(whole.body)):
        changed = bytearray(whole.body)
        changed[place] ^= 1 << rng.randrange(8)
        other = Entry(1, whole.event_id, whole.digest, bytes(changed), 0.0)
        found = damaged_of([whole, other, whole])
        assert found in ([], [other])
        if not found:  # white space between tokens
            event = parse(other.body, max_bytes=10_000)
            assert (event.event_id, event.digest, event.other) == (whole.event_id, whole.digest, original.other)


def test_nothing_is_found_in_nothing() -> None:
    assert damaged_of([]) == []


def test_each_is_reported_once_and_their_number_is_bounded() -> None:
    damage = DamagedEntries()
    assert (damage.count, damage.remark()) == (0, ())
    with capture_logs() as logs:
        damage.meet([entry(BODIES[0], 0)])
        assert damage.remark()[0].startswith("journal: 1 damaged entry is not sent, such as number 0 (event e)")
        for _ in range(2):
            damage.meet([entry(BODIES[0], number) for number in range(MOST_NAMED + 50)])
    assert len(logs) == MOST_NAMED
    assert damage.count == MOST_NAMED + 1
    assert "number 0 (event e)" in damage.remark()[0]


def test_an_entry_that_is_no_event_is_damaged() -> None:
    with pytest.raises(InvalidEvent):
        parse(b"{", max_bytes=10)
    assert len(damaged_of([Entry(1, "e", b"", b"{", 0.0)])) == 1
