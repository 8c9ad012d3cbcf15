"""The books of an audit: one column for each event, and nothing hides."""

from hypothesis import given
from hypothesis import strategies as st

from ops.audit.account import Account


def test_each_place_is_counted_and_the_rest_is_missing():
    account = Account(accepted=5)
    left = account.enter(["row", "letter", "held", "unread", "gone"], {"row"}, {"letter": 1})
    assert left == ["held", "unread", "gone"]
    account.close(left, {"held"}, {"unread"})
    assert account.missing == ["gone"]
    assert not account.is_balanced
    assert account.counts() == {
        "accepted": 5, "rows": 1, "letters": 1, "in_flight": 1, "waiting": 1,
        "missing": 1, "doubled": 0, "damaged_lines": 0,
    }  # fmt: skip


def test_a_row_with_an_unresolved_letter_is_doubled_and_so_are_two_letters():
    account = Account()
    account.enter(["a", "b", "c"], {"a"}, {"a": 1, "b": 2, "c": 1})
    assert account.doubled == ["a", "b"]
    assert not account.is_balanced


ids = st.sets(st.sampled_from("abcdefgh"))


@given(st.lists(st.sampled_from("abcdefgh"), unique=True), ids, ids, ids, ids)
def test_the_columns_always_add_up_to_what_was_accepted(accepted, rows, letters, held, waiting):
    account = Account(accepted=len(accepted))
    account.close(account.enter(accepted, rows, dict.fromkeys(letters, 1)), held, waiting)
    counts = account.counts()
    columns = ("rows", "letters", "in_flight", "waiting", "missing")
    assert sum(counts[column] for column in columns) == counts["accepted"] == len(accepted)
