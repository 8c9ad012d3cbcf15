"""Which letters are tried again by themselves, when, and when the rest must wait. Pure decisions."""

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unlost.listener.core.cause import Reason
from unlost.listener.pipeline.healing import NEVER, HealPolicy, has_stopped

HOUR = 3_600.0


@pytest.mark.parametrize(
    ("what", "reason", "error_class", "after"),
    [
        ("transient", "exhausted", "transient", 60.0),
        ("transient", "exhausted", "permanent", None),
        ("transient", "rejected", "permanent", None),
        ("transient", "stopped", "transient", 0.0),
        ("transient", "overflow", "transient", 0.0),
        ("transient", "crash_loop", "transient", None),
        ("all", "rejected", "permanent", 60.0),
        ("all", "invalid", "permanent", None),
        ("all", "conflict", "permanent", None),
        ("off", "stopped", "transient", None),
    ],
)
def test_the_policy_decides_which_letters_heal_and_when(what, reason, error_class, after):
    assert HealPolicy(what).heal_after(reason, error_class) == after


def test_the_reasons_that_never_heal_are_reasons():
    assert set(get_args(Reason)) > NEVER


def test_pauses_grow_from_a_minute_to_hours_and_stay_there():
    policy = HealPolicy()
    pauses = [policy.delay(failures, 0.0) for failures in range(1, 12)]
    assert pauses[:4] == [60.0, 120.0, 240.0, 480.0]
    assert pauses[-1] == policy.longest == 4 * HOUR
    assert 10 * HOUR < sum(pauses) < 48 * HOUR


@given(st.integers(0, 10_000), st.floats(0.0, 1.0, exclude_max=True))
def test_a_group_is_tried_once_a_minute_at_most_and_never_later_than_the_longest_with_its_jitter(failures, fraction):
    policy = HealPolicy()
    assert policy.first <= policy.delay(failures, fraction) <= policy.longest * 1.25


def test_letters_are_spaced_by_the_rate():
    assert HealPolicy(rate=50.0).seconds_for(100) == 2.0


@pytest.mark.parametrize(
    ("settled", "lasting", "stopped"), [(0, 1, True), (1, 99, False), (0, 0, False), (3, 0, False)]
)
def test_one_that_is_settled_shows_that_the_cause_is_gone(settled, lasting, stopped):
    assert has_stopped(settled, lasting) is stopped
