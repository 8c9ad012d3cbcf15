"""Missing numbers of several connections, compared with plain sets. And signs of life."""

from hypothesis import given
from hypothesis import strategies as st

from unlost.listener.source.feed import counting
from unlost.listener.source.feed.counting import Count, Counting, both
from unlost.listener.source.feed.gaps import Hole
from unlost.listener.source.feed.signs import Signs

NUMBERS = st.sets(st.integers(-5, 30), max_size=20)


def take(one: Counting, count: Count, numbers: set[int], by: str = "x") -> None:
    for number in sorted(numbers):
        if (hole := count.numbers.take(by, number)) is not None:
            one.found(count, hole)


@given(before=NUMBERS, parts=st.lists(NUMBERS, min_size=1, max_size=4), after=NUMBERS, data=st.data())
def test_only_numbers_that_no_connection_delivered_are_missing(
    before: set[int], parts: list[set[int]], after: set[int], data: st.DataObject
):
    found: list[Hole] = []
    several = Counting(found.append, apart=False)
    counts = [several.begin()]
    take(several, counts[0], before)
    counts += [several.begin() for _ in parts[1:]]
    late = set(range(-5, max(before, default=-99))) - before  # declared already, or before all
    parts = [numbers - late for numbers in parts]
    parts[0] -= before
    for count, numbers in zip(counts, parts, strict=True):
        take(several, count, numbers)
    for count in data.draw(st.permutations(counts)):
        several.end(count)
    seen = before.union(*parts)
    after = {number for number in after if number > max(seen, default=-99)}
    take(several, several.begin(), after)
    seen |= after
    missing = [number for hole in found for number in range(hole.first, hole.last + 1)]
    assert len(missing) == len(set(missing)), "once each"
    expected = set(range(min(seen), max(seen))) - seen if seen else set()
    if before:  # otherwise nothing is known before the first number of a connection
        expected = {number for number in expected if number > min(before)}
        assert set(missing) == expected
    assert set(missing) <= expected


def test_intervals_in_both():
    assert both([(1, 3), (6, 9)], [(2, 7)]) == [(2, 3), (6, 7)]
    assert both([], [(1, 2)]) == []


def test_more_holes_than_are_kept_are_declared_at_once(monkeypatch):
    monkeypatch.setattr(counting, "MOST_HOLES", 2)
    found: list[Hole] = []
    several = Counting(found.append, apart=False)
    first, second = several.begin(), several.begin()
    take(several, first, {1, 3, 5, 7})
    assert found == [Hole("x", 6, 6)]
    several.end(first)
    assert found == [Hole("x", 6, 6), Hole("x", 2, 2), Hole("x", 4, 4)]
    several.end(second)
    several.end(second)
    assert len(found) == 3


def test_connections_with_numbers_of_their_own_are_never_compared():
    found: list[Hole] = []
    several = Counting(found.append, apart=True)
    first, second = several.begin(), several.begin()
    take(several, first, {1, 2})
    take(several, second, {7, 9})
    several.end_all()
    take(several, several.begin(), {50})
    assert found == [Hole("x", 8, 8)]


def test_messages_after_a_pause_may_be_as_old_as_the_pause():
    signs = Signs(10.0)
    signs.heard(12.0)
    assert signs.last_at == 12.0
    signs.pause(20.0)
    signs.resume(50.0)
    signs.heard(50.1)
    assert signs.last_at == 20.0
    signs.heard(56.0)
    assert signs.last_at == 56.0
