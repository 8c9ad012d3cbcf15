"""Metrics of what a listener loses and finds again."""

from collections.abc import Callable

import pytest
from prometheus_client import CollectorRegistry

from unlost.listener.core.facts import (
    ClaimingChanged,
    Fact,
    KeysBlocked,
    NotAcknowledged,
    SourceGap,
    SourceLost,
    StoringPaused,
)
from unlost.listener.core.gap import Gap
from unlost.listener.observe.metrics import ListenerMetrics

Value = Callable[..., float | None]


@pytest.fixture
def counted() -> tuple[Callable[[Fact], None], Value]:
    registry = CollectorRegistry()
    return ListenerMetrics(registry), lambda name, **labels: registry.get_sample_value(f"unlost_{name}", labels)


def test_each_lost_connection_to_the_source_is_counted(counted: tuple[Callable[[Fact], None], Value]) -> None:
    state, value = counted
    state(ClaimingChanged(True, ""))
    state(ClaimingChanged(False, "no peer"))
    state(SourceLost("ws://127.0.0.1:1/", "refused", 1.0))
    state(SourceLost("ws://127.0.0.1:1/", "refused", 2.0))
    state(SourceLost("kafka://b/t", "refused", 2.0))
    assert value("source_disconnects_total", source="ws://127.0.0.1:1/") == 2
    assert value("source_disconnects_total", source="kafka://b/t") == 1


def test_gaps_are_counted_by_source_by_how_and_by_whether_their_size_is_known() -> None:
    registry = CollectorRegistry()
    metrics = ListenerMetrics(registry)
    metrics.show_sources(["a", "b"])

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"unlost_source_{name}", labels)

    assert value("gaps_total", source="b", how="silence", size="unknown") == 0, "an increase includes the first gap"
    assert value("missing_events_total", source="b") == value("unacknowledged_total", source="b") == 0
    metrics(SourceGap(Gap("1", "a", "sequence", None, None, 7, 0.0, 0.0)))
    metrics(SourceGap(Gap("2", "a", "silence", None, None, None, 0.0, 0.0)))
    metrics(NotAcknowledged("b", 3))
    assert value("gaps_total", source="a", how="sequence", size="known") == 1
    assert value("gaps_total", source="a", how="silence", size="unknown") == 1
    assert (value("missing_events_total", source="a"), value("missing_events_total", source="b")) == (7, 0)
    assert value("unacknowledged_total", source="b") == 3


def test_a_gauge_shows_what_is_paused_until_it_resumes(counted: tuple[Callable[[Fact], None], Value]) -> None:
    state, value = counted
    assert (value("claiming_open"), value("storing_paused"), value("reading_stopped_by_key")) == (0, 0, 0)
    for fact in (ClaimingChanged(True, ""), StoringPaused("refused"), KeysBlocked(stops=True)):
        state(fact)
    assert (value("claiming_open"), value("storing_paused"), value("reading_stopped_by_key")) == (1, 1, 1)
