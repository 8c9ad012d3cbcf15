"""What follows from the windows of a soak: courses by thirds, slopes, and the drift of the p99."""

import json

import pytest

from unlost.ops.bench.figures import Latencies
from unlost.ops.bench.soak import Soak, Window


def soaked(*p99: float, stall: int = -1) -> Soak:
    """Windows of ten seconds with these 99th percentiles. In one of them the whole machine may have stalled."""
    return Soak(
        100,
        [
            Window(
                at=10.0 * number,
                events=1_000 * number,
                latency=Latencies(1.0, 900.0 if number == stall else one, 1_000.0),
                floor=Latencies(0.5, 450.0 if number == stall else 2.0, 500.0),
                listener_mb=100 + number / 360,
                producer_mb=50.0,
                descriptors=90 - number,
                redis_bytes=5_000 + 136_000 * number,
                costs={"listeners": 20.0 + number, "Redis": 5.0},
            )
            for number, one in enumerate(p99)
        ],
    )


def test_the_drift_compares_the_last_third_with_the_first() -> None:
    assert soaked(4, 4, 4, 9, 5, 5, 5).drift == pytest.approx(5 / 4)
    assert soaked(4, 4, 4, 9, 9, 9, 4, 4, 4).courses["p99, ms"] == [4, 9, 4]


def test_one_stall_of_the_machine_is_no_drift() -> None:
    found = soaked(*[4.0] * 9, stall=8)
    assert found.drift == 1
    assert found.courses["p99 : hop + round trip + commit"] == [2, 2, 2]


def test_windows_that_are_no_multiple_of_three_leave_the_rest_to_the_middle() -> None:
    assert soaked(1, 1, 7, 7, 7, 7, 3, 3).courses["p99, ms"] == [1, 7, 3]


def test_slopes_are_those_of_a_line() -> None:
    slopes = soaked(*range(1, 10)).slopes
    assert slopes["largest listener, MB an hour"] == pytest.approx(1)
    assert slopes["producer, MB an hour"] == 0
    assert slopes["descriptors an hour"] == pytest.approx(-360)
    assert slopes["Redis, bytes an event"] == pytest.approx(136)
    assert slopes["p99, ms an hour"] == pytest.approx(360)


def test_all_of_it_is_in_the_json() -> None:
    found = json.loads(json.dumps(soaked(1, 2, 3).as_json()))
    assert found["rate"] == 100
    assert found["thirds"]["listeners, processor µs an event"] == [20, 21, 22]
    assert [one["latency"]["p99"] for one in found["windows"]] == [1, 2, 3]
