"""The marks of drills: what Prometheus sees of them, and that none outlives its drill."""

from typing import Any

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from tests.support.stand_ins import Clock
from unlost.ops.console.drills import LIFE, MOST_NAMES, DrillReport, Drills, TooManyDrills


def test_a_drill_is_marked_from_start_to_end_and_its_damage_within():
    registry = CollectorRegistry()
    drills = Drills(registry, Clock(0.0))

    def seen() -> tuple[float | None, ...]:
        return tuple(
            registry.get_sample_value(f"unlost_drill_{what}", {"drill": "redis-frozen"})
            for what in ("running", "damage")
        )

    assert seen() == (None, None)
    steps: list[tuple[Any, tuple[int, int]]] = [
        ("running", (1, 0)),
        ("damaged", (1, 1)),
        ("running", (1, 0)),
        ("ended", (0, 0)),
    ]
    for state, shown in steps:
        drills.note(DrillReport("redis-frozen", state))
        assert seen() == shown
    assert drills.running() == []


def test_a_mark_that_is_not_renewed_ends_by_itself():
    clock = Clock(0.0)
    drills = Drills(CollectorRegistry(), clock)
    drills.note(DrillReport("redis-frozen", "damaged"))
    clock.now = LIFE - 0.1
    assert drills.running() == [{"drill": "redis-frozen", "state": "damaged"}]
    clock.now = LIFE
    assert drills.running() == []


def test_names_stay_few_and_plain():
    drills = Drills(CollectorRegistry(), Clock(0.0))
    for number in range(MOST_NAMES):
        drills.note(DrillReport(f"drill-{number}", "ended"))
    drills.note(DrillReport("drill-7", "running"))
    with pytest.raises(TooManyDrills):
        drills.note(DrillReport("one-more", "running"))
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'{"drill": "A B", "state": "running"}', type=DrillReport)
