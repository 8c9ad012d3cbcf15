"""Metrics of what a listener loses and finds again."""

from collections.abc import Callable

import pytest
from prometheus_client import CollectorRegistry

from unlost.listener.core.facts import ClaimingChanged, Fact, KeysBlocked, SourceLost, StoringPaused
from unlost.listener.observe.metrics import ListenerMetrics

Value = Callable[[str], float | None]


@pytest.fixture
def counted() -> tuple[Callable[[Fact], None], Value]:
    registry = CollectorRegistry()
    return ListenerMetrics(registry), lambda name: registry.get_sample_value(f"unlost_{name}")


def test_each_lost_connection_to_the_source_is_counted(counted: tuple[Callable[[Fact], None], Value]) -> None:
    state, value = counted
    state(ClaimingChanged(True, ""))
    state(ClaimingChanged(False, "no peer"))
    assert value("source_disconnects_total") == 0
    state(SourceLost("ws://127.0.0.1:1/", "refused", 1.0))
    state(SourceLost("ws://127.0.0.1:1/", "refused", 2.0))
    assert value("source_disconnects_total") == 2


def test_a_gauge_shows_what_is_paused_until_it_resumes(counted: tuple[Callable[[Fact], None], Value]) -> None:
    state, value = counted
    assert (value("claiming_open"), value("storing_paused"), value("reading_stopped_by_key")) == (0, 0, 0)
    for fact in (ClaimingChanged(True, ""), StoringPaused("refused"), KeysBlocked(stops=True)):
        state(fact)
    assert (value("claiming_open"), value("storing_paused"), value("reading_stopped_by_key")) == (1, 1, 1)
