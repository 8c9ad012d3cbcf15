"""A listener's own history for the operator on call: what changed, how often, and since when something is missing."""

from tests.support.stand_ins import Clock
from unlost.listener.core.facts import (
    BreakerChanged,
    ClaimingChanged,
    DeadLetterFileFailed,
    DeadLetterFileRecovered,
    EventBuried,
    EventsStored,
    EventsTakenOver,
    LeasesLost,
    PlacesDeclared,
    ReadingPaused,
    ReadingResumed,
    SourceConnected,
    SourceGap,
    SourceLost,
    StoreReplaced,
    StoreUnconfirmed,
    StoreWentBack,
    StoringPaused,
    StoringResumed,
)
from unlost.listener.core.gap import Gap
from unlost.listener.observe.changes import ALIKE_SECONDS, MOST, Changes, StateChange


def shown(*facts, apart: float = 1.0) -> Changes:
    clock = Clock()
    changes = Changes(clock)
    for fact in facts:
        changes(fact)
        clock.now += apart
    return changes


def test_a_loss_is_dated_by_when_it_was_first_noticed():
    lost = (
        BreakerChanged("redis", "open"), BreakerChanged("redis", "half-open"), BreakerChanged("redis", "open"),
        PlacesDeclared(("postgres:1",), True), ClaimingChanged(False, "away"), SourceLost("ws", "reset", 1.0),
        SourceLost("ws", "refused", 2.0), ReadingPaused("full"), DeadLetterFileFailed("no room"),
        StoringPaused("locked"),
    )  # fmt: skip
    assert shown(*lost).since() == {
        "redis": 100.0, "degraded": 103.0, "claims": 104.0, "source": 105.0, "reading": 107.0, "dead_letters": 108.0,
        "storing": 109.0,
    }  # fmt: skip
    found = (
        BreakerChanged("redis", "closed"), PlacesDeclared(("redis:1",), False), ClaimingChanged(True, ""),
        SourceConnected("ws", None), ReadingResumed(1.0), DeadLetterFileRecovered(), StoringResumed(1.0),
    )  # fmt: skip
    assert shown(*lost, *found).since() == {}


def test_a_repeated_change_is_one_entry_despite_others_between():
    flapping = [
        BreakerChanged("redis", "open"),
        BreakerChanged("redis", "half-open"),
        BreakerChanged("redis", "closed"),
    ] * 3
    assert shown(*flapping, EventsTakenOver(["x", "y"])).lately() == [
        StateChange(106.0, "breaker_changed", "redis open", 3, 100.0),
        StateChange(108.0, "breaker_changed", "redis closed", 3, 102.0),
        StateChange(109.0, "events_taken_over", "", 2, 109.0),
    ]
    assert len(shown(*flapping, apart=ALIKE_SECONDS).lately()) == 6


def test_a_probe_that_fails_is_no_change():
    probes = [BreakerChanged("redis", state) for state in ("open", "half-open", "open", "half-open", "open", "closed")]
    assert [(one.detail, one.times) for one in shown(*probes).lately()] == [("redis open", 1), ("redis closed", 1)]


def test_a_place_that_is_declared_again_is_no_change():
    both = PlacesDeclared(("postgres:1", "redis:1"), False)
    assert shown(both, PlacesDeclared(("redis:1",), False)).lately() == []


def test_single_events_are_not_reported_and_the_past_is_bounded():
    assert shown(EventsStored(["a"], [0.1])).lately() == []
    many = [SourceGap(Gap("g", "s", "sequence", str(number), "9", 1, 0.0, 0.0)) for number in range(2 * MOST)]
    assert len(shown(*many, EventBuried("a", "rejected", "permanent", "no"), LeasesLost(["b"])).lately()) == MOST


def test_for_an_hour_health_remarks_that_postgresql_went_back():
    now = [1_000_000.0]
    changes = Changes(lambda: now[0])
    assert changes.remarks() == []
    changes(StoreWentBack("g2"))
    changes(StoreReplaced("i2"))
    changes(StoreUnconfirmed("unconfirmed-g3"))
    now[0] += 3_599
    assert changes.remarks() == [
        "PostgreSQL lacks what it had committed; it is read again (since 1970-01-12 13:46:40 UTC)",
        (
            "a listener or replay started, and Redis did not confirm that PostgreSQL has all that it had committed; "
            "nothing shows a loss, and the latest events are read again (since 1970-01-12 13:46:40 UTC)"
        ),
    ]
    now[0] += 1
    assert changes.remarks() == []
