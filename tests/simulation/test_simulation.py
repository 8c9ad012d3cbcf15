"""The law under a virtual clock: many schedules of faults. A seed replays each of them."""

import hashlib
import os
import subprocess
import sys

import msgspec
import pytest

from tests.simulation.hunt import hunt
from tests.simulation.run import run
from tests.simulation.schedule import schedule

SCHEDULES = int(os.environ.get("SIMULATION_SCHEDULES", "1000"))
"""A look at each run of the tests. ``make simulate`` hunts in as many as are asked for."""

FORMER_FINDINGS = {
    101457: "an expired member stayed open until Redis had been asked",
    102873: "who woke waited for ever to replicate what was settled meanwhile",
    523: "lost between the claim manager's check and the handler's, an event stood by nowhere",
    796: "the same, with a plain handler",
    1153: "what was claimed in a place before it was given up was not replicated there again",
    1375: "the same, in Redis",
    3139: "what another had given back in Redis was claimed there, and PostgreSQL knew of its letter",
    5477: "a letter waited for room on the disk, and was written when its claim had gone",
    8388: "a letter was announced in Redis alone, while all were moving to PostgreSQL",
    16236: "a member that came back buried what a peer held elsewhere by then",
    2574: "who lost a claim in PostgreSQL won it again in Redis, where it still lay, after another's letter",
    8854: "an invalid event that stood by again had forgotten why it is invalid",
    25: "a gap was reported to nobody, since PostgreSQL was away and then another store",
    3343: "what a restored journal had lost was handed back in an orderly stop",
    1860: "a handler started in its transaction long after the lease was lost",
}


@pytest.mark.parametrize("seed", FORMER_FINDINGS)
def test_former_findings_stay_fixed(seed: int) -> None:
    for affinity in (False, True):
        assert run(msgspec.structs.replace(schedule(seed), affinity=affinity)).broken == ""


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_the_law_holds_in_every_schedule() -> None:
    found = [f"{finding.seed}: {finding.broken}" for finding in hunt(0, SCHEDULES, jobs=2)]
    assert not found, "replay with: python -m tests.simulation --replay SEED"


def trace_of(seed: int) -> str:
    return hashlib.sha256("\n".join(run(schedule(seed), traced=True).trace).encode()).hexdigest()


def test_a_seed_runs_the_same_steps_everywhere() -> None:
    seeds = (523, 659, 1375, 1860)
    here = [trace_of(seed) for seed in seeds]
    assert here == [trace_of(seed) for seed in seeds]
    code = f"from tests.simulation.test_simulation import trace_of; print(*map(trace_of, {seeds}))"
    there = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONHASHSEED": "7"},
        check=True,
        capture_output=True,
        text=True,
    )
    assert there.stdout.split() == here
