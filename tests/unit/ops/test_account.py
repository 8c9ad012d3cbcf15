"""The sums of an audit: each event is counted in exactly one column."""

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from unlost.ops.audit.account import Account, Row
from unlost.ops.audit.query import AcceptedEvent


def entries(names: Iterable[str], digest: str = "d") -> list[AcceptedEvent]:
    return [AcceptedEvent(name, f"j.{number}", digest) for number, name in enumerate(names)]


def stored(names: Iterable[str], digest: str = "d") -> dict[str, Row]:
    return dict.fromkeys(names, Row(digest))


def test_each_place_is_counted_and_the_rest_is_missing():
    account = Account()
    account.accept(entries(["row", "letter", "held", "unread", "gone"]), stored(["row"]), {"letter": 1})
    assert [*account.left] == ["held", "unread", "gone"]
    account.close({"held"}, {"unread"})
    assert account.missing == ["gone"]
    assert not account.is_balanced
    assert account.counts() == {
        "accepted": 5, "redelivered": 0, "rows": 1, "letters": 1, "in_flight": 1, "waiting": 1,
        "unread": 0, "missing": 1, "doubled": 0, "differing": 0, "unhandled": 0, "dropped": 0, "gaps": 0,
        "damaged": 0, "damaged_lines": 0,
    }  # fmt: skip


def test_entries_after_the_cursor_of_a_group_at_rest_are_unread():
    account = Account()
    account.accept(entries(["held", "unread", "gone"]), {}, {})
    account.close({"held"}, {"unread"}, is_read=False)
    assert (account.waiting, account.unread, account.missing) == (0, 1, ["gone"])
    account = Account()
    account.accept(entries(["unread"]), {}, {})
    account.close(set(), {"unread"}, is_read=False)
    assert not account.is_balanced


def test_a_row_with_an_unresolved_letter_is_doubled_and_so_are_two_letters():
    account = Account()
    account.accept(entries("abc"), stored("a"), {"a": 1, "b": 2, "c": 1})
    assert account.doubled == ["a", "b"]
    assert not account.is_balanced


def test_doubled_events_are_checked_once_more():
    """A letter became a row between two queries."""
    account = Account(doubled=["healed", "row and letter", "one letter left", "two letters"])
    account.look_again_at_doubled(
        {"healed", "row and letter"}, {"row and letter": 1, "one letter left": 1, "two letters": 2}
    )
    assert account.doubled == ["row and letter", "two letters"]


def test_an_event_that_was_sent_twice_is_one_event_and_one_row():
    account = Account()
    account.accept(entries("aba"), stored("ab"), {})
    account.accept(entries("b"), stored("b"), {})
    account.close(set(), set())
    assert (account.accepted, account.redelivered, account.rows) == (2, 2, 2)
    assert account.is_balanced


def test_a_row_with_other_content_than_the_journal_has_is_found():
    account = Account()
    account.accept(entries("abc"), {"a": Row("d"), "b": Row("other")}, {})
    account.look_again({"c": Row("another")}, {})
    assert account.ids()["differing"] == ["b", "c"]
    assert not account.is_balanced


def test_the_same_value_written_another_way_is_no_other_content_whenever_it_was_sent_again():
    account = Account()
    account.accept([*entries("a"), *entries("a", "spaced")], stored("a", "spaced"), {})
    account.accept(entries("bc"), stored("b", "spaced"), {})
    assert account.ids()["differing"] == ["b"]
    account.accept(entries("bc", "spaced"), stored("b", "spaced"), {})
    account.look_again(stored("c", "spaced"), {})
    assert account.is_balanced


def test_a_damaged_entry_is_missing_unless_it_is_a_row_or_is_there_whole_once_more():
    account = Account()
    damaged = [AcceptedEvent(name, f"j.{number}", "d", state="damaged") for number, name in enumerate("abc")]
    account.accept(damaged, stored("a"), {})
    account.accept(entries("c"), {}, {})
    account.close(set(), {"b", "c"})
    assert account.ids()["damaged"] == ["a", "b"]
    assert (account.missing, account.rows, account.waiting) == (["b"], 1, 1)


def test_a_row_that_no_handler_has_seen_is_named():
    account = Account()
    account.accept(entries("ab"), {"a": Row("d"), "b": Row("d", handled=False)}, {})
    assert account.unhandled == ["b"]
    assert not account.is_balanced


def test_entries_dropped_unread_unbalance_the_account():
    account = Account(dropped=1)
    assert not account.is_balanced


ids = st.sets(st.sampled_from("abcdefgh"))


@given(st.lists(st.lists(st.sampled_from("abcdefgh"))), ids, ids, ids, ids, ids)
def test_the_columns_always_add_up_to_what_was_accepted(pages, rows, later, letters, held, waiting):
    account = Account()
    for page in pages:
        account.accept(entries(page), stored(rows), dict.fromkeys(letters, 1))
    account.look_again(stored(rows | later), dict.fromkeys(letters, 1))
    account.close(held, waiting)
    counts = account.counts()
    columns = ("rows", "letters", "in_flight", "waiting", "missing")
    every = [name for page in pages for name in page]
    assert sum(counts[column] for column in columns) == counts["accepted"] == len(set(every))
    assert counts["redelivered"] == len(every) - len(set(every))
