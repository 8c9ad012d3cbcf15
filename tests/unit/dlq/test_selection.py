"""Filters: each one alone, and times."""

import pytest

from tests.support.letters import invalid, letter
from unlost.dlq.record.letter_state import OPEN, LetterState
from unlost.dlq.record.query import Selection, moment

ONE = letter("order-1", type="order")


@pytest.mark.parametrize(
    "selection",
    [
        Selection(),
        Selection(reasons=frozenset({"exhausted"})),
        Selection(error_classes=frozenset({"transient"})),
        Selection(types=frozenset({"order", "x"})),
        Selection(error_types=frozenset({"ValueError"})),
        Selection(fingerprint=ONE.fingerprint[:5]),
        Selection(since=ONE.last_at, until=ONE.last_at + 1),
        Selection(ids=("order-1",)),
        Selection(ids=("nobody", ONE.letter_id[-8:])),
        Selection(statuses=frozenset({"open"})),
    ],
)
def test_each_filter_takes_what_it_names(selection: Selection):
    assert selection.takes(ONE, OPEN)


@pytest.mark.parametrize(
    "selection",
    [
        Selection(reasons=frozenset({"invalid"})),
        Selection(error_classes=frozenset({"permanent"})),
        Selection(types=frozenset({"x"})),
        Selection(error_types=frozenset({"KeyError"})),
        Selection(fingerprint="zz"),
        Selection(since=ONE.last_at + 1),
        Selection(until=ONE.last_at),
        Selection(ids=("order",)),
        Selection(statuses=frozenset({"resolved"})),
        Selection(reasons=frozenset({"exhausted"}), statuses=frozenset({"archived"})),
    ],
)
def test_each_filter_leaves_what_it_does_not_name(selection: Selection):
    assert not selection.takes(ONE, OPEN)


def test_a_letter_without_event_has_no_type():
    assert not Selection(types=frozenset({"order"})).takes(invalid("x", b'{"type":"order"'), LetterState())


def test_times_are_utc_or_ages():
    assert moment("1970-01-02", 0.0) == 86400.0
    assert moment("1970-01-01T01:00+01:00", 0.0) == 0.0
    assert moment("90m", 10_000.0) == 4600.0
    with pytest.raises(ValueError, match="is no time"):
        moment("yesterday", 0.0)
