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
        one.take(count, (by, number), None)


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


# -- numbers that go back, or leap -------------------------------------------------------------------


def counted(one: Counting, count: Count, *numbers: int, cursor: str | None = None) -> None:
    for number in numbers:
        one.take(count, ("x", number), cursor)


def test_numbers_that_begin_anew_are_declared_and_counted_from_there():
    found: list[Hole] = []
    one = Counting(found.append, apart=False)
    count = one.begin()
    counted(one, count, 500, 501, 499, 502, 501, 1, 2, 3, 4, 6)
    assert found == [Hole("x", 502 + 1, 1 - 1), Hole("x", 5, 5)]
    assert (found[0].missing, found[1].missing) == (None, 1), "how many is unknown"
    assert (found[0].named(found[0].first - 1), found[0].named(found[0].last + 1)) == ("x:502", "x:1")


def test_a_late_number_is_no_new_beginning():
    found: list[Hole] = []
    one = Counting(found.append, apart=False)
    count = one.begin()
    counted(one, count, *range(1, 50), 7, 7, 7, 8, 50, 9, 10, 51, 51, 51, 51, 40, 39, 38, 52)
    assert found == []


def test_one_absurd_number_hides_no_later_one():
    found: list[Hole] = []
    one = Counting(found.append, apart=False)
    count = one.begin()
    counted(one, count, 1, 2, 10**18, 3, 4, 5, 7)
    assert [hole.missing for hole in found] == [None, None, 1]
    assert [hole.named(hole.last + 1) for hole in found] == ["x:1000000000000000000", "x:3", "x:7"]
    counted(one, count, 10**5_000, 8, 9, 10, 12)
    assert [hole.missing for hole in found[3:]] == [None, None, 1]
    assert all(len(hole.named(hole.last + 1)) < 100 for hole in found)


def test_after_a_reconnect_a_lower_number_of_a_feed_that_does_not_resume_is_declared_at_once():
    found: list[Hole] = []
    one = Counting(found.append, apart=False)
    counted(one, one.begin(), 1, 2, 3)
    one.end_all()
    counted(one, one.begin(), 3, 4)
    one.end_all()
    assert found == [], "the last one, repeated, is no gap"
    counted(one, one.begin(), 2, 3, 4, 5, 7)
    assert found == [Hole("x", 5, 1), Hole("x", 6, 6)]


def test_a_feed_that_resumes_may_repeat_unless_its_cursor_shows_that_the_event_is_new():
    found: list[Hole] = []
    one = Counting(found.append, apart=False, rereads=True)
    count = one.begin()
    for number in range(1, 100):
        counted(one, count, number, cursor=f"t{number}")
    one.end_all()
    count = one.begin()
    for number in range(50, 110):
        counted(one, count, number, cursor=f"t{number}")
    assert found == []
    one.end_all()
    count = one.begin()
    counted(one, count, 1, 2, cursor="t110")  # the server counts from 1 again
    assert [(hole.first, hole.last, hole.missing) for hole in found] == [(110, 0, None)]
    counted(one, count, 4, cursor="t112")
    assert found[1:] == [Hole("x", 3, 3)]


@given(
    runs=st.lists(st.tuples(st.integers(0, 10**6), st.integers(4, 20)), min_size=1, max_size=6),
    absurd=st.lists(st.integers(10**13, 10**20), max_size=2),
)
def test_however_numbers_jump_the_last_ones_are_counted_again(runs: list[tuple[int, int]], absurd: list[int]):
    found: list[Hole] = []
    one = Counting(found.append, apart=False)
    count = one.begin()
    for number in absurd:
        counted(one, count, number)
    for first, length in runs:
        counted(one, count, *range(first, first + length))
    end = runs[-1][0] + runs[-1][1]
    known = len(found)
    counted(one, count, end + 3)
    assert found[known:] == [Hole("x", end, end + 2)]
