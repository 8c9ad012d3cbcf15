"""Figures computed from measurements, and the events published for them."""

import json
import random
import xml.etree.ElementTree as ET

import pytest

from unlost.ops.bench import load
from unlost.ops.bench.figures import (
    BARS,
    Latencies,
    Measured,
    better,
    median_by_rate,
    median_of,
    missed_bars,
    percentiles,
    spread,
    work_conserving_limit,
)
from unlost.ops.bench.keys import memory_ratio
from unlost.ops.bench.plot import drawn
from unlost.ops.bench.results import Findings


def test_rates_and_costs():
    one = Measured(1_000, 0.5, 0.02)
    assert (one.rate, one.cost) == (2_000, pytest.approx(20))


def test_the_middle_round_counts():
    rounds = [Measured(100, seconds) for seconds in (1.0, 4.0, 2.0)]
    assert median_by_rate(rounds).seconds == 2.0
    assert spread(rounds) == pytest.approx((100 - 25) / 50)


def test_each_figure_of_latencies_has_its_own_median():
    rounds = [Latencies(1, 9, 10), Latencies(2, 3, 30), Latencies(3, 6, 20)]
    assert median_of(rounds) == Latencies(2, 6, 20)


def test_the_limit_is_the_cores_over_the_cost_of_all_that_is_needed():
    stages = {"receive": Measured(1_000_000, 1, 10), "claim": Measured(1_000_000, 1, 30), "bury": Measured(1, 1, 9)}
    assert work_conserving_limit(stages, 2, ("receive", "claim")) == pytest.approx(50_000)


def test_percentiles_are_milliseconds():
    found = percentiles([number / 1000 for number in range(1_000)])
    assert (found.p50, found.p99, found.p999) == pytest.approx((500, 990, 999))


def test_the_memory_of_many_keys_may_be_high_for_a_moment_but_may_not_grow():
    assert memory_ratio([140.0, 160.0, 150.0, 155.0]) == pytest.approx(155 / 160)
    assert memory_ratio([140.0, 160.0, 180.0, 200.0]) == pytest.approx(200 / 160)


def test_each_missed_bar_is_named():
    well = {name: bar.limit for name, bar in BARS.items()}
    assert missed_bars(well) == []
    assert missed_bars({**well, "sequential": 19.9}) == ["sequential"]
    assert missed_bars({**well, "latency": 3.1}) == ["latency"]


def test_noise_explains_some_misses_and_never_a_size():
    assert missed_bars({"sequential": 7.0, "latency": 80.0}, noisy=True) == []
    assert len(missed_bars({"sequential": 6.0, "latency": 100.0, "redis_bytes": 121.0}, noisy=True)) == 3


def test_the_better_of_two_looks_counts():
    assert better("sequential", 19.0, 21.0) == 21.0
    assert better("latency", 2.0, 9.0) == 2.0


def test_events_have_their_size_and_copies_follow_their_originals():
    distinct = load.events(1_000, "run", 300)
    assert all(abs(len(line) - 300) < 20 for line in distinct)
    lines = load.with_duplicates(distinct, 0.5, random.Random(1))
    assert len(lines) == 2_000
    first: dict[str, int] = {}
    for line in lines:
        event_id = json.loads(line)["event_id"]
        first.setdefault(event_id, len(first))
    assert list(first) == [json.loads(line)["event_id"] for line in distinct]
    assert b"\n".join(load.bodies(lines)).split(b"\n") == lines


def test_scattered_ids_are_distinct_and_follow_no_order():
    ids = [load.scattered(number, "run") for number in range(20_000)]
    assert len(set(ids)) == len(ids)
    assert ids != sorted(ids)


def test_structured_events_have_their_size():
    for size in (4_000, 16_000):
        assert all(abs(len(line) - size) < size / 20 for line in load.structured(3, "run", size))


def test_the_whole_cost_is_that_of_listeners_and_servers():
    assert Measured(1_000, 1, 0.02, 0.01).whole_cost == pytest.approx(30)


def test_the_plot_shows_each_rate():
    found = Findings(rates={"pipeline": Measured(10, 1), "loop, sequential": Measured(1, 1)})
    picture = drawn(found)
    ET.fromstring(picture)
    assert "10/s" in picture
    assert "loop, sequential" in picture
