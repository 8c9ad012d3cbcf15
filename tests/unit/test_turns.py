"""Tests of the checker of turns: it must find each kind of disorder, or tests that use it show nothing."""

from tests.support.turns import out_of_turn

PUBLISHED = {"x": ["x0", "x1", "x2"], "y": ["y0"]}
IN_ORDER = ["x0", "y0", "x1", "x2"]


def test_runs_in_order_are_not_reported() -> None:
    assert out_of_turn(IN_ORDER, IN_ORDER, PUBLISHED) == []
    assert out_of_turn(["x0", "x0", "x1"], ["x0"], PUBLISHED) == [], "a run that is repeated in its turn"


def test_a_run_before_its_turn_is_reported() -> None:
    assert out_of_turn(["x1", "x0"], [], PUBLISHED) == ["x1 of x ran before a run of x0"]
    assert out_of_turn(["x0", "x1", "x0"], [], PUBLISHED) == ["x1 of x ran before a run of x0"]


def test_a_row_before_its_turn_is_reported() -> None:
    assert out_of_turn([], ["x0", "x2", "x1"], PUBLISHED) == ["x2 of x was stored before x1"]
    assert out_of_turn([], ["x0", "x2"], PUBLISHED) == ["x1 of x is not stored, but one behind it is"]
