"""Frames for clients: the library can read what we build by hand."""

from collections.abc import Iterator

import pytest
from websockets.frames import Frame, Opcode

from unlost.producer.journal.port import Entry
from unlost.producer.journal.timelines import Timeline, Timelines
from unlost.producer.stream.tail import Tail, frame_of, wire_of

J = Timelines("0123456789ab", [Timeline(1, "0000000a", 1)])


@pytest.mark.parametrize("size", [0, 60, 64, 70, 125, 126, 127, 65_480, 65_535, 65_536, 200_000])
def test_the_wire_carries_exactly_the_frame(size: int):
    body = b'{"event_id":"e","payload":"%b"}' % (b"x" * size)
    entry = Entry(7, "e", b"", body, 0.0)
    wire = wire_of(entry, J)
    assert wire == Frame(Opcode.TEXT, frame_of(entry, J)).serialize(mask=False)


def test_both_sides_of_each_length_of_the_header():
    shortest = len(frame_of(Entry(7, "e", b"", b'{"payload":""}', 0.0), J))
    for length in (125, 126, 65_535, 65_536):
        entry = Entry(7, "e", b"", b'{"payload":"%b"}' % (b"x" * (length - shortest)), 0.0)
        assert len(frame_of(entry, J)) == length
        assert wire_of(entry, J) == Frame(Opcode.TEXT, frame_of(entry, J)).serialize(mask=False)


def entries(first: int, count: int) -> list[Entry]:
    return [
        Entry(number, f"e{number}", b"", b'{"event_id":"e%d"}' % number, 0.0) for number in range(first, first + count)
    ]


def test_makes_no_entries_for_nobody():
    made: list[Entry] = []

    def new(first: int, count: int) -> Iterator[Entry]:
        for entry in entries(first, count):
            made.append(entry)
            yield entry

    tail = Tail(J, 0)
    tail.extend(3, new(1, 3))
    assert (tail.newest, made) == (3, [])
    tail.subscribe(lambda: None)
    tail.extend(3, new(4, 0))
    tail.extend(5, new(4, 2))
    assert (tail.newest, made) == (5, entries(4, 2))


def test_keeps_nothing_for_nobody_and_goes_on_where_a_reader_comes():
    tail = Tail(J, 0)
    tail.extend(3, entries(1, 3))
    assert (tail.newest, tail.after(2, 10, 1_000)) == (3, None)
    grown: list[int] = []

    def tell() -> None:
        grown.append(tail.newest)

    tail.subscribe(tell)
    tail.extend(5, entries(4, 2))
    assert grown == [5]
    assert tail.after(3, 10, 1_000) == [wire_of(entry, J) for entry in entries(4, 2)]
    assert tail.after(2, 10, 1_000) is None
    tail.unsubscribe(tell)
    tail.extend(6, entries(6, 1))
    assert (tail.newest, tail.after(4, 10, 1_000), tail.after(6, 10, 1_000)) == (6, None, [])


@pytest.mark.parametrize(
    ("newest", "first", "count"),
    [(6, 5, 2), (6, 3, 4), (6, 6, 1), (5, 4, 1), (6, 4, 0)],
    ids=["somebody wrote between", "known ones again", "a hole", "too few", "none"],
)
def test_what_does_not_follow_is_left_to_the_journal(newest: int, first: int, count: int) -> None:
    tail = Tail(J, 1)
    grown: list[int] = []
    tail.subscribe(lambda: grown.append(tail.newest))
    tail.extend(3, entries(2, 2))
    tail.extend(newest, entries(first, count))
    assert (tail.newest, tail.after(1, 10, 1_000), tail.after(3, 10, 1_000)) == (newest, None, None)
    assert grown == [3, newest]
    tail.extend(newest + 1, entries(newest + 1, 1))
    assert tail.after(newest, 10, 1_000) == [wire_of(entry, J) for entry in entries(newest + 1, 1)]
