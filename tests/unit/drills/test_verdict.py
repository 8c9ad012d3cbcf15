"""A drill passes only if the law and its bars held. Otherwise it says why."""

from dataclasses import replace

import pytest

from unlost.ops.faults.drills.drill import Bars
from unlost.ops.faults.drills.verdict import Observed, judge

GOOD = Observed(
    drill="some",
    published=100,
    rows=100,
    lost=0,
    doubled=0,
    letters=0,
    letters_after_replay=0,
    extra_handler_runs=0,
    seconds_to_progress=0.5,
    seconds_to_recover=1.2344,
    lease=5.0,
)
STRICT = Bars(progress=3.0, recover=5.0, pause=1.0)


def test_a_drill_in_which_all_held_passes_without_a_reason():
    result, reasons = judge(GOOD, STRICT)
    assert (result.passed, reasons) == (True, [])


def test_the_json_has_exactly_the_promised_names():
    result, _ = judge(GOOD, STRICT)
    assert list(result.as_json()) == [
        "drill", "published", "rows", "lost", "doubled", "letters", "letters_after_replay", "extra_handler_runs",
        "seconds_to_progress", "seconds_to_recover", "seconds_p99_before",
        "seconds_p99_during", "upgraded_from", "passed",
    ]  # fmt: skip
    assert result.as_json()["seconds_to_recover"] == 1.234


@pytest.mark.parametrize(
    ("change", "bars", "word"),
    [
        ({"published": 0, "rows": 0}, STRICT, "nothing was published"),
        ({"lost": 1, "rows": 99}, STRICT, "1 accepted event is neither a row nor a dead letter"),
        ({"doubled": 2}, STRICT, "twice"),
        ({"rows": 99}, STRICT, "do not make 100"),
        ({"letters": 3}, STRICT, "none is expected"),
        ({"letters": 0}, Bars(letters="some"), "some are expected"),
        ({"letters": 3, "letters_after_replay": 1, "rows": 99}, Bars(letters="any"), "left after the replay"),
        ({"extra_handler_runs": 1}, STRICT, "beyond one per event"),
        ({"felt": False}, STRICT, "reported the damage"),
        ({"seconds_to_progress": 3.1}, STRICT, "flowed again after 3.1 s; 3 s"),
        ({"seconds_to_progress": None}, STRICT, "it was never observed that events flowed"),
        ({"seconds_to_recover": 5.2}, STRICT, "back to normal after 5.2 s"),
        ({"seconds_in_flight": 1.5}, STRICT, "in flight"),
        ({"seconds_to_take_over": 7.1}, Bars(takeover=2.0), "after 7.1 s; 7 s"),
        ({"seconds_to_take_over": None}, Bars(takeover=2.0), "no event was taken over"),
        ({"errors": ("the stage fell down",)}, STRICT, "the stage fell down"),
        (
            {"seconds_p99_before": 0.1, "seconds_p99_during": 0.31},
            Bars(slower=3.0),
            "0.310 s meanwhile",
        ),
        ({"seconds_p99_before": 0.1}, Bars(slower=3.0), "to compare p99"),
    ],
)
def test_each_broken_promise_fails_the_drill_and_is_reported(change: dict, bars: Bars, word: str):
    result, reasons = judge(replace(GOOD, **change), bars)
    assert not result.passed
    assert any(word in reason for reason in reasons), reasons


@pytest.mark.parametrize(
    ("change", "bars"),
    [
        ({"extra_handler_runs": 7}, Bars(extra_runs=True)),
        ({"letters": 3}, Bars(letters="some")),
        ({"letters": 3}, Bars(letters="any")),
        ({"felt": False}, Bars(felt=False)),
        ({"seconds_to_progress": 60.0, "seconds_to_recover": None}, Bars()),
        ({"seconds_in_flight": None}, STRICT),
        ({"seconds_to_take_over": 6.9}, Bars(takeover=2.0)),
    ],
)
def test_a_drill_passes_within_the_bars_that_it_allows(change: dict, bars: Bars):
    result, reasons = judge(replace(GOOD, **change), bars)
    assert (result.passed, reasons) == (True, [])


def test_patience_stretches_times_and_nothing_else():
    assert STRICT.stretched(2.0) == Bars(progress=6.0, recover=10.0, pause=2.0)
    assert Bars(letters="any", felt=False).stretched(3.0) == Bars(letters="any", felt=False)
