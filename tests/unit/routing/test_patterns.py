"""Patterns: which types they match, which is more specific, and when neither is."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unlost.listener.routing.patterns import ambiguous, covers, matches, mistake_in, overlap

PATTERNS = st.text("ab.*", min_size=1, max_size=6)
TYPES = st.text("ab.", max_size=8)


@pytest.mark.parametrize(
    ("pattern", "event_type", "fits"),
    [
        ("order.created", "order.created", True),
        ("order.created", "order.createdx", False),
        ("order.*", "order.created", True),
        ("order.*", "order.item.added", True),
        ("order.*", "order", False),
        ("*", "any\nthing", True),
        ("*.created", "order.created", True),
        ("a*b*c", "abcbc", True),
        ("a.c", "abc", False),
    ],
)
def test_a_star_stands_for_any_characters(pattern: str, event_type: str, fits: bool) -> None:
    assert matches(pattern, event_type) is fits


@given(PATTERNS, TYPES)
def test_matches_what_an_ordinary_expression_matches(pattern: str, event_type: str) -> None:
    ordinary = ".*".join(map(re.escape, pattern.split("*")))
    assert matches(pattern, event_type) == bool(re.fullmatch(ordinary, event_type, re.DOTALL))


@given(PATTERNS, PATTERNS, TYPES)
def test_a_type_of_both_is_an_overlap_and_a_wider_pattern_matches_it_too(one: str, other: str, kind: str) -> None:
    if matches(one, kind) and matches(other, kind):
        assert overlap(one, other)
    if covers(one, other) and matches(other, kind):
        assert matches(one, kind)


def test_ambiguous_are_only_patterns_of_which_neither_is_more_specific() -> None:
    assert ambiguous("order.*", "*.created")
    assert not ambiguous("order.*", "order.created")
    assert not ambiguous("order.*", "*")
    assert not ambiguous("order.*", "payment.*")


def test_many_stars_and_a_long_type_take_no_time() -> None:
    assert not matches("*a" * 60 + "b", "a" * 256)
    assert overlap("*a" * 60, "a*" * 60)


def test_patterns_that_match_nothing_are_mistakes() -> None:
    assert "matches nothing" in mistake_in("")
    assert "at most 256" in mistake_in("x" * 257)
    assert mistake_in("order.*") == ""
