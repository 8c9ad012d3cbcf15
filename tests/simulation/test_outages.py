"""Long outages of PostgreSQL while the source can resume: nothing is buried, however long they last."""

from typing import get_args

import pytest

from tests.simulation.run import Play
from tests.simulation.schedule import Fault, Happening, Schedule, Work

HAPPENINGS = tuple(Happening(f"e{n}", 0.5 + n / 8, f"e{n}", seconds=0.3) for n in range(40))
"""Some of them are stored before, some are in hand, most come while it lasts."""


@pytest.mark.parametrize("affinity", [False, True])
@pytest.mark.parametrize("work", get_args(Work))
@pytest.mark.parametrize(
    ("what", "seconds"),
    [
        pytest.param("crash", 35.0, id="failed over after 35 s"),  # with every commit, and without the unlogged claims
        pytest.param("down", 35.0, id="away for 35 s"),
        pytest.param("freeze", 40.0, id="silent for 40 s"),
        pytest.param("locked", 40.0, id="table locked for 40 s"),
    ],
)
def test_a_long_outage_costs_no_letter(what: str, seconds: float, work: Work, affinity: bool) -> None:
    listeners, outage = (("l0", 0.0), ("l1", 0.2)), Fault("f0", 1.5, seconds, what, "postgres")
    play = Play(Schedule(3, work, True, listeners, HAPPENINGS, (outage,), affinity=affinity), traced=False)
    assert play.run() == ""
    assert play.scene.law.letters_by_id == {}
    assert play.world.now > seconds
    assert {one.event_id for one in HAPPENINGS} == {*play.scene.postgres.memory.rows}
