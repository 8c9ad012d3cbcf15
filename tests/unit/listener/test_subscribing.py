"""Which facts reach which subscriber: only the kinds that it names, and each kind that any subscriber names."""

import sys
import time
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from structlog.testing import capture_logs

from unlost.listener.core.facts import (
    BatchDone,
    ClaimingChanged,
    DeadLetterFileFailed,
    EventsClaimed,
    EventsStored,
    Fact,
    Facts,
    FramesReceived,
    HandlerRan,
    ReadingPaused,
    SourceLost,
    broadcast,
)
from unlost.listener.observe.changes import Changes
from unlost.listener.observe.logs import ListenerLogs
from unlost.listener.observe.metrics import KEPT, ListenerMetrics
from unlost.listener.observe.progress import Progress
from unlost.listener.observe.recent import Recent

KINDS = sorted(Fact.__subclasses__(), key=lambda kind: kind.__name__)
CLOSED = ClaimingChanged(False, "a peer is elsewhere")
SAMPLES: dict[type, Any] = {int: 1, float: 0.5, str: "it", bool: True}


def sample(kind: type[Fact]) -> Fact:
    """Any fact of this kind."""
    return kind(*(value_of(hint) for hint in get_type_hints(kind).values()))


def value_of(hint: Any) -> Any:
    if hint in SAMPLES:
        return SAMPLES[hint]
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return hint(*(value_of(one) for one in get_type_hints(hint).values()))
    first = get_args(hint)[0]
    if isinstance(first, str):  # a Literal
        return first
    is_one_of = get_origin(hint) in (Union, UnionType, None)
    return value_of(first) if is_one_of else (value_of(first),)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        Clock.now += 1
        return Clock.now


def seen_by_changes(fact: Fact) -> bool:
    changes = Changes(Clock())
    for error in (SourceLost("s", "gone", 1.0), ReadingPaused("full"), DeadLetterFileFailed("full"), CLOSED):
        changes(error)
    before = changes.lately(), changes.since()
    changes(fact)
    return (changes.lately(), changes.since()) != before


def seen_by_recent(fact: Fact) -> bool:
    recent = Recent(Clock())
    recent(fact)
    return bool(recent.of(["it"])["it"])


def seen_by_progress(fact: Fact) -> bool:
    clock = Clock()
    progress = Progress(clock)
    before = clock()
    progress(fact)
    return progress.stuck_for(1, 1e9) < clock() - before


def seen_by_logs(fact: Fact) -> bool:
    with capture_logs() as lines:
        ListenerLogs(debug=False)(fact)
    return bool(lines)


def shown(hear: Facts, fact: Fact) -> list[Fact]:
    """The facts that a subscriber to these kinds receives."""
    heard: list[Fact] = []

    class Ear:
        subscribes_to = getattr(hear, "subscribes_to")  # noqa: B009  an attribute that a plain subscriber lacks

        def __call__(self, fact: Fact) -> None:
            heard.append(fact)

    broadcast(Ear())(fact)
    return heard


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_each_subscriber_gets_every_fact_that_it_would_record(kind: type[Fact]):
    fact = sample(kind)
    for hear, seen in (
        (Changes(Clock()), seen_by_changes(fact)),
        (Recent(Clock()), seen_by_recent(fact)),
        (Progress(Clock()), seen_by_progress(fact)),
        (ListenerLogs(debug=False), seen_by_logs(fact)),
    ):
        if seen:
            assert shown(hear, fact) == [fact], f"{type(hear).__name__} misses it"


def test_everything_leaves_a_trace_somewhere():
    traceless = []
    for kind in KINDS:
        registry = CollectorRegistry()
        metrics = ListenerMetrics(registry)
        before = generate_latest(registry)
        metrics(sample(kind))
        fact = sample(kind)
        seen = seen_by_changes(fact), seen_by_recent(fact), seen_by_progress(fact), seen_by_logs(fact)
        if generate_latest(registry) == before and not any(seen):
            traceless.append(kind.__name__)
    assert traceless == ["AttemptStarted", "CursorSaved"], "of traces, and of tests alone"


def test_a_subscriber_that_names_no_kind_gets_every_fact():
    heard: list[Fact] = []
    tell = broadcast(heard.append)
    for kind in KINDS:
        tell(sample(kind))
    assert [type(fact) for fact in heard] == KINDS


@given(st.lists(st.integers(1, 40), max_size=40), st.integers(0, 40))
def test_deferred_counts_are_complete_whenever_they_are_read(sizes: list[int], looks_at: int):
    registry = CollectorRegistry()
    metrics = ListenerMetrics(registry)
    stored = 0
    for number, size in enumerate(sizes):
        metrics(EventsStored(["e"] * size, [0.5] * size))
        metrics(FramesReceived(size, 10 * size))
        metrics(BatchDone("claim", size, 0.5))
        metrics(EventsClaimed(["e"] * size))
        stored += size
        if number == looks_at:
            assert registry.get_sample_value("unlost_events_total", {"outcome": "stored"}) == stored
    shown = {
        name: registry.get_sample_value(f"unlost_{name}") for name in ("frames_received_total", "frame_bytes_total")
    }
    assert shown == {"frames_received_total": stored, "frame_bytes_total": 10 * stored}
    assert registry.get_sample_value("unlost_settle_seconds_count") == stored
    assert registry.get_sample_value("unlost_claims_total", {"answer": "won"}) == stored
    batches = registry.get_sample_value("unlost_batch_events_count", {"stage": "claim"}) or 0
    assert batches == len(sizes)


def test_nothing_is_kept_without_end():
    metrics = ListenerMetrics(CollectorRegistry())
    batch, ran, seconds = BatchDone("claim", 1, 0.1), HandlerRan("e", 0.5, succeeded=True), time.time()
    before = [sys.getrefcount(one) for one in (batch, ran, seconds)]
    for _ in range(3 * KEPT):
        metrics(batch)
        metrics(EventsStored(["e"], [seconds]))
        metrics(ran)
        assert all(
            sys.getrefcount(one) - was < KEPT + 4 for one, was in zip((batch, ran, seconds), before, strict=True)
        )
    metrics(EventsStored(["e"] * KEPT, [seconds] * KEPT))
    assert sys.getrefcount(seconds) <= before[-1]


def test_attempts_are_counted_by_route_and_known_routes_show_zero_before():
    registry = CollectorRegistry()
    metrics = ListenerMetrics(registry)
    metrics.show_routes(["mail", "stock"])
    assert registry.get_sample_value("unlost_handler_runs_total", {"route": "stock", "result": "failed"}) == 0
    for succeeded, number in ((False, 1), (False, 2), (True, 3)):
        metrics(HandlerRan("e", 0.5, succeeded, "mail", number))
    metrics(HandlerRan("f", 2.0, True, "stock"))
    found = {
        (route, result): registry.get_sample_value("unlost_handler_runs_total", {"route": route, "result": result})
        for route in ("mail", "stock")
        for result in ("succeeded", "failed")
    }
    assert found == {("mail", "succeeded"): 1, ("mail", "failed"): 2, ("stock", "succeeded"): 1, ("stock", "failed"): 0}
    assert registry.get_sample_value("unlost_handler_retries_total", {"route": "mail"}) == 2
    assert registry.get_sample_value("unlost_handler_seconds_sum", {"route": "stock"}) == 2
