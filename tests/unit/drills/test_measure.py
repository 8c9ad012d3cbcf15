"""Times and counts are computed from records, and are correct."""

from collections import Counter

import pytest

from unlost.ops.faults.drills.measure import (
    Moments,
    Run,
    Sample,
    StoredEvent,
    extra_runs,
    felt,
    in_flight_pause,
    p99,
    progress_from_damage,
    progress_from_heal,
    recovery,
    taken_over,
    well_since,
)
from unlost.ops.faults.drills.records import Records

MOMENTS = Moments(struck=100.0, heal_began=104.0, healed=105.0)


def row(event_id: str, received: float, processed: float, epoch: int = 1) -> StoredEvent:
    return StoredEvent(event_id, received, processed, epoch)


def run(event_id: str, kind: str = "run", at: float = 0.0) -> Run:
    return Run(kind, at, 1, 1, 42, event_id)


def test_runs_that_failed_on_purpose_and_replays_are_not_extra():
    runs = [run("a"), run("b", "fail"), run("b", "fail"), run("b", "replay"), run("c", "hang"), run("c", "kill")]
    assert extra_runs(runs) == 0
    assert extra_runs([*runs, run("a"), run("a")]) == 2


def test_a_run_survives_its_line():
    one = Run("run", 1700000000.123456, 2, 3, 4711, "drill-x-1 with a blank")
    assert Run.of(one.line().decode().rstrip("\n")) == one


def test_progress_counts_from_the_first_event_that_came_after_the_damage():
    rows = [row("before", 99.9, 100.01), row("after", 100.2, 101.5), row("later", 100.3, 101.7)]
    assert progress_from_damage(rows, MOMENTS) == pytest.approx(1.5)
    assert progress_from_damage(rows[:1], MOMENTS) is None


def test_progress_after_healing_is_never_negative():
    assert progress_from_heal([row("a", 90, 103.0), row("b", 90, 104.5)], MOMENTS) == 0.0
    assert progress_from_heal([row("a", 90, 103.0), row("b", 90, 106.5)], MOMENTS) == pytest.approx(1.5)


def test_recovery_waits_for_the_backlog_and_for_every_listener():
    rows = [row("a", 101, 106.0), row("late", 120, 120.1)]
    accepted = {"a": 101.0, "late": 119.0}
    well = [Sample(99, "x", True), Sample(101, "x", False), Sample(105.5, "x", True)]
    assert recovery(rows, well, accepted, MOMENTS) == pytest.approx(1.0)
    slow = [*well, Sample(107, "y", False), Sample(108, "y", True)]
    assert recovery(rows, slow, accepted, MOMENTS) == pytest.approx(3.0)
    assert recovery(rows, [*slow, Sample(109, "x", False)], accepted, MOMENTS) is None


def test_well_is_only_who_stays_well():
    samples = [Sample(at, "x", well) for at, well in [(1, False), (2, True), (3, False), (4, True), (5, True)]]
    assert well_since(samples, 0.0) == 4
    assert well_since([], 7.0) == 7.0


def test_a_damage_before_the_drill_is_not_its_own():
    assert not felt([Sample(99, "x", False), Sample(101, "x", True)], MOMENTS)
    assert felt([Sample(101, "x", False)], MOMENTS)


def test_in_flight_are_those_whose_handler_had_begun():
    rows = [row("a", 99, 100.4), row("b", 99, 99.5), row("c", 100.1, 109)]
    runs = [run("a", at=99.9), run("b", at=99.1), run("c", at=100.2)]
    assert in_flight_pause(rows, runs, MOMENTS) == pytest.approx(0.4)
    assert in_flight_pause(rows, runs[1:], MOMENTS) is None


def test_a_takeover_shows_in_the_epoch():
    rows = [row("a", 99, 100.4), row("b", 99, 106.0, epoch=2), row("c", 99, 105.0, epoch=2)]
    assert taken_over(rows, MOMENTS) == pytest.approx(6.0)
    assert taken_over(rows[:1], MOMENTS) is None


def test_records_show_lost_and_doubled_events():
    records = Records([row("a", 1, 2), row("b", 1, 2)], ["b", "c", "d", "d"])
    assert records.lost(["a", "b", "c", "d", "e"]) == ["e"]
    assert records.doubled() == ["b", "d"]


def test_a_handlers_own_writes_count_too():
    rows = [row("once", 1, 2), row("twice", 1, 2), row("never", 1, 2)]
    records = Records(rows, [], Counter({"once": 1, "twice": 2, "without a row": 1}))
    assert records.doubled() == ["never", "twice", "without a row"]


def test_p99_is_counted_from_the_first_attempt_to_publish_of_events_in_that_time():
    rows = [row(str(n), 0.0, 100.0 + n + n / 1000) for n in range(200)]
    begun = {str(n): 100.0 + n for n in range(200)} | {"never stored": 150.0}
    assert p99(rows, begun, 100.0, 200.0) == pytest.approx(0.098), "the 99th of 100"
    assert p99(rows, begun, 200.0, 300.0) == pytest.approx(0.198)
    assert p99(rows[:1], begun, 100.0, 200.0) == 0.0
    assert p99(rows, begun, 300.0, 400.0) is None
