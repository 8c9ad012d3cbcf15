"""Plans of damage: repeatable, within their time, and never two faults on one target at once."""

import asyncio
import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.fakes import as_a
from unlost.ops.faults.drills.catalogue import DRILLS
from unlost.ops.faults.drills.chaos import Fault, carry_out, chaos, plan
from unlost.ops.faults.drills.cli import DrillOptions
from unlost.ops.faults.drills.drill import IN_TRANSACTION, RECORD, Poison
from unlost.ops.faults.drills.render import WIDTH, listed
from unlost.ops.faults.drills.stage import Stage
from unlost.ops.faults.drills.traffic import Traffic

SEEDS = st.integers(0, 2**32)


@given(SEEDS, st.floats(2, 600))
def test_the_same_seed_makes_the_same_plan(seed: int, seconds: float):
    assert plan(seed, seconds, "ab") == plan(seed, seconds, "ab")


@given(SEEDS)
def test_every_fault_is_healed_in_time_and_a_target_takes_one_at_a_time(seed: int):
    faults = plan(seed, 120.0, "abc")
    assert faults
    assert all(0 < fault.at < fault.until <= 120.0 for fault in faults)
    for _, group in itertools.groupby(
        sorted(faults, key=lambda fault: (fault.target, fault.at)), lambda fault: fault.target
    ):
        assert all(one.until < other.at for one, other in itertools.pairwise(group))


class _Brittle:
    """A stage that reports a second fault on a part that was not healed."""

    def __init__(self) -> None:
        self.hurt = False
        self.faults = 0

    async def freeze(self, part: str) -> None:
        assert not self.hurt, f"{part} was struck before it was healed"
        self.hurt = True
        self.faults += 1
        await asyncio.sleep(0)

    async def thaw(self, part: str) -> None:
        assert self.hurt, f"{part} was healed of nothing"
        self.hurt = False


async def test_a_late_machine_heals_a_target_before_it_strikes_again():
    stage = _Brittle()
    late = [Fault(0.0, 0.0, "freeze", "a") for _ in range(3)]
    await carry_out(late, 0.0, print)(as_a(Stage, stage))
    assert (stage.faults, stage.hurt) == (3, False)


def test_faults_last_at_once():
    faults = plan(7, 60.0, "ab")
    assert any(one.at < other.at < one.until for one, other in itertools.combinations(faults, 2))


def test_both_forms_of_handlers_are_drilled_by_chaos():
    assert {chaos(seed, 10, "ab", print).handler for seed in (1, 2)} == {RECORD, IN_TRANSACTION}


def test_only_where_an_owner_ends_in_the_middle_or_rows_are_lost_may_handlers_run_again():
    allowed = {name for name, drill in DRILLS.items() if drill.bars.extra_runs}
    listeners = {"listener-killed", "all-listeners-killed", "listener-frozen", "clock-jump", "feed-unacked"}
    others = {"handler-kills", "stop-foreign", "postgres-restored", "disk-lost", "dump-restored"}
    assert allowed == {*listeners, *others, "ordered", "ordered-chaos"}


def test_the_list_fits_a_terminal():
    lines = list(listed(DRILLS.values()))
    assert max(map(len, lines)) <= WIDTH
    assert {line.split()[0] for line in lines if not line.startswith(" ")} == DRILLS.keys()


@pytest.mark.parametrize(("poison", "count"), [(Poison("fail", 10), 10), (Poison("kill"), 1)])
def test_poison_stands_in_the_payload_of_as_many_events_as_asked(poison: Poison, count: int):
    stream = Traffic("x-", 100, 10.0, poison)
    asked = [event for n in range(100) if "drill" in str((event := stream.event(n))["payload"])]
    assert len(asked) == count


def test_a_stream_that_must_outlast_the_damage_ends_by_itself_only_if_its_length_was_asked_for():
    usual = DrillOptions(200.0, None, 2, 60.0, 1, keep=False, patience=1.0, console=False, hold=0.0)
    for name in ("rolling-upgrade", "patroni-failover"):
        stream = usual.stream(DRILLS[name])
        assert (stream.until_healed, stream.events) == (True, 36_000)
        assert not replace(usual, events=600).stream(DRILLS[name]).until_healed


def test_a_damage_that_is_held_for_people_begins_no_later():
    held = DrillOptions(200.0, None, 2, 60.0, 1, keep=False, patience=1.0, console=True, hold=30.0)
    drill = DRILLS["redis-frozen"]
    events = held.stream(drill).events
    assert events == 3_000 + 200 * 30
    assert round(events * held.paced(drill).begins_after) == 1_000
