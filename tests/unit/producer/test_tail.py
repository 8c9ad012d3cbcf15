"""The newest events for clients: consecutive, bounded, and none for nobody."""

from collections.abc import Iterator

import pytest

from unlost.producer.journal.port import Entry
from unlost.producer.stream.tail import Tail


def entries(first: int, count: int) -> list[Entry]:
    return [
        Entry(number, f"e{number}", b"", b'{"event_id":"e%d"}' % number, 0.0) for number in range(first, first + count)
    ]


def bodies(first: int, count: int) -> list[bytes]:
    return [entry.body for entry in entries(first, count)]


def test_makes_no_entries_for_nobody():
    made: list[Entry] = []

    def new(first: int, count: int) -> Iterator[Entry]:
        for entry in entries(first, count):
            made.append(entry)
            yield entry

    tail = Tail(0)
    tail.extend(3, new(1, 3))
    assert (tail.newest, made) == (3, [])
    tail.subscribe(lambda: None)
    tail.extend(3, new(4, 0))
    tail.extend(5, new(4, 2))
    assert (tail.newest, made) == (5, entries(4, 2))


def test_keeps_nothing_for_nobody_and_goes_on_where_a_reader_comes():
    tail = Tail(0)
    tail.extend(3, entries(1, 3))
    assert (tail.newest, tail.after(2, 10, 1_000)) == (3, None)
    grown: list[int] = []

    def tell() -> None:
        grown.append(tail.newest)

    tail.subscribe(tell)
    tail.extend(5, entries(4, 2))
    assert grown == [5]
    assert tail.after(3, 10, 1_000) == bodies(4, 2)
    assert tail.after(2, 10, 1_000) is None
    tail.unsubscribe(tell)
    tail.extend(6, entries(6, 1))
    assert (tail.newest, tail.after(4, 10, 1_000), tail.after(6, 10, 1_000)) == (6, None, [])


@pytest.mark.parametrize(
    ("newest", "first", "count"),
    [(6, 5, 2), (6, 3, 4), (6, 6, 1), (5, 4, 1), (6, 4, 0)],
    ids=["somebody wrote between", "known ones again", "a hole", "too few", "none"],
)
def test_entries_that_do_not_follow_are_left_to_the_journal(newest: int, first: int, count: int) -> None:
    tail = Tail(1)
    grown: list[int] = []
    tail.subscribe(lambda: grown.append(tail.newest))
    tail.extend(3, entries(2, 2))
    tail.extend(newest, entries(first, count))
    assert (tail.newest, tail.after(1, 10, 1_000), tail.after(3, 10, 1_000)) == (newest, None, None)
    assert grown == [3, newest]
    tail.extend(newest + 1, entries(newest + 1, 1))
    assert tail.after(newest, 10, 1_000) == bodies(newest + 1, 1)


def test_is_bounded_by_count_and_by_size():
    tail = Tail(0, most=3, most_bytes=60)
    tail.subscribe(lambda: None)
    tail.extend(5, entries(1, 5))
    assert (tail.after(1, 10, 1_000), tail.after(2, 10, 1_000)) == (None, bodies(3, 3))
    tail.extend(6, [Entry(6, "e6", b"", b"x" * 50, 0.0)])
    assert (tail.after(4, 10, 1_000), tail.after(5, 10, 1_000)) == (None, [b"x" * 50])
