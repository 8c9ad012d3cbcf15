"""Letters of a fleet: schedules with shipping, edits and replays break nothing, and find each mistake built in."""

import pytest

from tests.simulation.shipping import broken_seeds, run
from tests.simulation.shipping_mutations import SHIPPING_MUTATIONS, mutated

SCHEDULES = 20
LONGEST_SEARCH = 200
FOUND_BY = {
    "ship-noted-early": 5, "ship-shared-early": 5, "ship-shares-nothing": 5, "replay-original": 5, "edit-unleased": 1,
    "ship-loss-unseen": 2,
}  # fmt: skip
"""A seed that found the mistake. If it misses it after some change, others are tried."""


def test_every_letter_and_every_version_arrives() -> None:
    assert broken_seeds(range(SCHEDULES)) == {}


@pytest.mark.parametrize("name", SHIPPING_MUTATIONS)
def test_a_mistake_about_shipping_is_found(name: str) -> None:
    with mutated(name):
        assert any(run(seed) for seed in (FOUND_BY.get(name, 0), *range(LONGEST_SEARCH))), (
            f"nothing found that {SHIPPING_MUTATIONS[name][0]}"
        )
