"""The simulation bites: each deliberate mistake in the protocol is found.

``FOUND_BY`` names a seed that found it, so that this is quick; when another change makes that seed miss,
the seeds from 0 on are tried, and the number is to be renewed.
"""

import itertools

import pytest

from tests.simulation.mutations import MUTATIONS, mutated
from tests.simulation.run import run
from tests.simulation.schedule import schedule
from tests.simulation.shrink import shrink

LONGEST_SEARCH = 1_500

FOUND_BY = {
    "forget-the-fence": 10, "foreign-row-is-mine": 10, "done-before-row": 0, "dead-before-letter": 1, "no-letter":
    1, "drop-standby": 9, "standby-is-settled": 2, "reset-epoch": 20, "never-renew": 1, "lease-ignored": 149,
    "lost-unseen": 75, "lost-is-forgotten": 184, "meet-nobody": 27, "no-cover": 9, "declare-before-cover": 697,
    "give-up-early": 9, "stale-cover": 185, "any-place": 1660, "no-look": 98, "no-last-look": 930, "stale-roll":
    363, "waits-for-the-settled": 417, "one-place": 35, "dead-untold": 1, "cursor-at-receipt": 2,
    "cursor-any-order": 2, "start-from-now": 0, "token-per-host": 20, "takeover-without-lease": 0,
}  # fmt: skip


@pytest.mark.timeout(200)
@pytest.mark.parametrize("name", MUTATIONS)
def test_a_mistake_is_found(name: str) -> None:
    with mutated(name):
        seeds = itertools.chain([FOUND_BY[name]], range(LONGEST_SEARCH))
        assert any(run(schedule(seed)).broken for seed in seeds), f"nobody noticed that {MUTATIONS[name][0]}"


def test_a_failing_schedule_is_made_small() -> None:
    plan = schedule(FOUND_BY["no-cover"])
    with mutated("no-cover"):
        dropped = shrink(plan, lambda smaller: bool(run(smaller).broken))
        small = plan.without(dropped)
        assert run(small).broken
        assert not any(run(small.without([name])).broken for name in small.names())
    assert len(small.names()) < len(plan.names())


def test_every_mistake_is_undone_afterwards() -> None:
    for name in MUTATIONS:
        with mutated(name):
            pass
    assert run(schedule(0)).broken == ""
