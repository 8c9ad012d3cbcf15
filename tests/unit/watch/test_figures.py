"""Rates and quantiles between two readings of a process's metrics."""

import pytest

from unlost.ops.watch.figures import Reading, quantile, rate, reading
from unlost.ops.watch.picture import DatabaseState, Listener, Picture, Producer, listener_of, ordinal

PAGE = """# TYPE unlost_events_total counter
unlost_events_total{outcome="stored"} %d
unlost_events_total{outcome="buried"} 1.0
# TYPE unlost_settle_seconds histogram
unlost_settle_seconds_bucket{le="0.1"} %d
unlost_settle_seconds_bucket{le="1.0"} %d
unlost_settle_seconds_bucket{le="+Inf"} %d
unlost_settle_seconds_sum 1.0
unlost_settle_seconds_count %d
"""


def page(at: float, stored: int, *buckets: int) -> Reading:
    return reading(PAGE % (stored, *(buckets or (0, 0, 0)), (buckets or (0,))[-1]), at)


def test_a_rate_is_what_was_added_in_each_second():
    assert rate(page(10, 100), page(14, 300), "unlost_events_total", outcome="stored") == 50
    assert page(1, 5).total("unlost_events_total") == 6


def test_a_counter_that_fell_began_anew():
    assert rate(page(10, 1000), page(12, 30), "unlost_events_total", outcome="stored") == 15


def test_one_reading_alone_has_no_rate():
    assert rate(None, page(1, 5), "unlost_events_total") == 0
    assert rate(page(1, 5), page(1, 6), "unlost_events_total") == 0


@pytest.mark.parametrize(("part", "bound"), [(0.5, 0.1), (0.9, 1.0), (1.0, 1.0)])
def test_a_quantile_counts_only_what_came_between(part: float, bound: float):
    before, after = page(1, 0, 500, 500, 500), page(2, 0, 506, 509, 510)
    assert quantile(before, after, "unlost_settle_seconds", part) == bound


def test_without_events_there_is_no_quantile():
    assert quantile(page(1, 0, 5, 5, 5), page(2, 0, 5, 5, 5), "unlost_settle_seconds", 0.5) is None
    assert quantile(None, page(2, 0), "unlost_nothing", 0.5) is None


def test_a_text_that_is_no_metrics_page_is_refused():
    with pytest.raises(ValueError, match=r".*"):
        reading("<html>", 1.0)


@pytest.mark.parametrize(
    ("cursor", "number"),
    [("c5.17", 17), ("c5.0", 0), (None, None), ("", None), ("c5.x", None), ("c5." + "9" * 30, None)],
)
def test_the_number_of_a_cursor(cursor: str | None, number: int | None):
    assert ordinal(cursor) == number


@pytest.mark.parametrize(
    ("health", "lag"),
    [
        ({"cursor": "j.5", "received": "j.20", "unsettled": 1}, 1),
        ({"cursor": "j.5", "received": "j.12", "unsettled": 3}, 11),
        ({"cursor": "j.20", "received": "j.20", "unsettled": 0}, 0),
        ({"cursor": "j.21", "received": "j.23", "unsettled": 2}, 2),
        ({"cursor": "j.5"}, 15),
        ({"cursor": None, "received": None, "unsettled": 4}, None),
        ({"cursor": "foreign", "received": "foreign"}, None),
    ],
)
def test_events_stored_past_a_slow_event_are_not_behind(health: dict, lag: int | None):
    assert listener_of("u", {"sources": [health]}, None, page(1, 0), 20).lag == lag
    assert listener_of("u", {"sources": [health]}, None, page(1, 0), None).lag is None


def test_the_most_advanced_listener_decides_how_far_all_is_behind():
    listeners = (Listener(url="u", name="a", lag=13), Listener(url="v", name="b", lag=11), Listener(url="w", name="c"))
    producer = Producer(url="p", newest=20)
    assert Picture(at=0, producer=producer, listeners=listeners).behind == 11
    assert (
        Picture(at=0, producer=producer, listeners=listeners, database=DatabaseState(settled_up_to="j.20")).behind == 0
    )
    assert Picture(at=0, producer=producer).behind is None
    assert Picture(at=0, listeners=listeners).behind is None


ROUTES = """# TYPE unlost_handler_runs_total counter
unlost_handler_runs_total{result="succeeded",route="mail"} %d
unlost_handler_runs_total{result="failed",route="mail"} %d
unlost_handler_runs_total{result="failed",route="stock"} 7
# TYPE unlost_handler_retries_total counter
unlost_handler_retries_total{route="mail"} %d
"""


def test_each_route_has_figures_of_its_own():
    before, now = reading(ROUTES % (10, 2, 1), 1), reading(ROUTES % (30, 6, 4), 3)
    mail, stock = listener_of("u", {"routes": {"mail": 5, "stock": 0}}, before, now, None).routes
    assert (mail.succeeded, mail.failed, mail.retried, mail.pausing) == (10, 2, 1.5, 5)
    assert (stock.name, stock.failed, stock.typical_seconds) == ("stock", 0, None)
