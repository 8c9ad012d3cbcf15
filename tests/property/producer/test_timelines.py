"""Timelines without a journal: where a cursor leads, and which starts are kept."""

from hypothesis import given
from hypothesis import strategies as st

from unlost.producer.journal.timelines import EMPTY_KEPT, Start, Timeline, Timelines, next_timeline, still_needed

JOURNAL = "0123456789ab"
LENGTHS = st.lists(st.integers(0, 3), min_size=1, max_size=6)


def timelines_of(lengths: list[int]) -> list[Timeline]:
    """One timeline for each start, with this many entries each."""
    return [Timeline(10 + n, f"{n:08x}", 1 + sum(lengths[:n])) for n in range(len(lengths))]


@given(LENGTHS, st.data())
def test_the_cursor_of_an_entry_leads_to_it_while_what_follows_can_be_read(lengths: list[int], data: st.DataObject):
    lines, newest = Timelines(JOURNAL, timelines_of(lengths)), sum(lengths)
    before_oldest = data.draw(st.integers(0, newest))
    for number in range(1, newest + 1):
        cursor, known = lines.cursor(number), number >= before_oldest
        start = lines.start_after(cursor, (before_oldest, newest))
        assert start == Start(max(number, before_oldest), is_known=known)
        assert lines.number_of(cursor, (before_oldest, newest)) == (number if known else None)
        assert lines.shared_up_to(cursor, newest) == number


@given(LENGTHS)
def test_a_cursor_names_the_start_in_which_its_entry_was_written(lengths: list[int]):
    known = timelines_of(lengths)
    lines = Timelines(JOURNAL, known)
    written_by = [one for one, length in zip(known, lengths, strict=True) for _ in range(length)]
    for number, one in enumerate(written_by, 1):
        assert lines.cursor(number) == f"{JOURNAL}.t{one.ordinal}-{one.random}.{number}"
    assert lines.cursor(sum(lengths) + 1) == f"{lines.stem}{sum(lengths) + 1}"


@given(LENGTHS, st.integers(1, 5))
def test_a_cursor_beyond_the_end_of_its_start_leads_to_that_end_and_is_doubted(lengths: list[int], more: int):
    known, newest = timelines_of(lengths), sum(lengths)
    lines = Timelines(JOURNAL, known)
    for n, one in enumerate(known):
        end = sum(lengths[: n + 1])
        cursor = f"{JOURNAL}.t{one.ordinal}-{one.random}.{end + more}"
        assert lines.start_after(cursor, (0, newest)) == Start(end, is_known=False)
        assert lines.shared_up_to(cursor, newest) == end


@given(LENGTHS, st.integers(0, 9))
def test_a_cursor_of_no_start_of_ours_leads_to_the_oldest(lengths: list[int], number: int):
    lines, newest = Timelines(JOURNAL, timelines_of(lengths)), sum(lengths)
    for cursor in (f"{JOURNAL}.t10-ffffffff.{number}", f"{JOURNAL}.t99-00000000.{number}", "nonsense", ""):
        assert lines.start_after(cursor, (0, newest)) == Start(0, is_known=False)
        assert lines.number_of(cursor, (0, newest)) is None
        assert lines.shared_up_to(cursor, newest) is None
    other = lines.cursor(1).replace(JOURNAL, "ba9876543210")
    assert lines.start_after(other, (0, newest)) == Start(0, is_known=False)


def test_a_cursor_from_before_its_start_is_not_believed():
    lines = Timelines(JOURNAL, timelines_of([2, 2]))
    assert lines.start_after(f"{JOURNAL}.t11-00000001.3", (0, 4)) == Start(3, is_known=True)
    assert lines.start_after(f"{JOURNAL}.t11-00000001.2", (0, 4)) == Start(0, is_known=False)


@given(LENGTHS, st.data())
def test_each_start_whose_entries_can_be_read_is_remembered(lengths: list[int], data: st.DataObject):
    known = timelines_of(lengths)
    before_oldest = data.draw(st.integers(0, sum(lengths)))
    kept = still_needed(known, before_oldest)
    ends = [sum(lengths[: n + 1]) for n in range(len(lengths))]
    gone = [one for one, end in zip(known[:-1], ends, strict=False) if end < before_oldest]
    assert kept == [one for one in known if one not in gone], "only a few of these have no entries"


def test_starts_with_entries_and_the_latest_few_without_are_kept():
    lengths = [1] * 20 + [0] * (EMPTY_KEPT + 5) + [1]
    known = timelines_of(lengths)
    assert still_needed(known, 0) == known[:20] + known[25:]
    assert still_needed(known[:20] + known[25:], 0) == known[:20] + known[25:]
    assert still_needed(known, 10) == known[9:20] + known[25:]


def test_a_start_that_has_an_entry_is_none_of_those_few():
    known = timelines_of([0] * EMPTY_KEPT + [1] * 20)
    assert still_needed(known, 0) == known


def test_the_next_start_is_above_all_others_whatever_the_clock_says():
    known = timelines_of([2, 2])
    assert next_timeline([], 0, 5.0).ordinal == 5_000
    after = next_timeline(known, 4, 0.001)
    assert (after.ordinal, after.first) == (12, 5)
    assert next_timeline(known, 4, 5.0).ordinal == 5_000
    assert next_timeline([], 0, 0.0).ordinal == 1
    assert len({next_timeline(known, 4, 5.0).random for _ in range(5)}) == 5
