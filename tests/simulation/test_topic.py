"""A topic whose partitions the listeners share: its schedules break nothing, and find each mistake that is built in."""

import pytest

from tests.simulation.mutations import mutated
from tests.simulation.run import run
from tests.simulation.topic import topic_shared
from tests.simulation.topic_mutations import TOPIC_MUTATIONS

SCHEDULES = 20
LONGEST_SEARCH = 1_000
FOUND_BY = {
    "topic-acknowledged-at-receipt": 1, "topic-saved-when-revoked": 1, "topic-begins-where-kafka-is": 1,
    "topic-saves-in-any-store": 22,
}  # fmt: skip
"""A seed that found the mistake; all others are found by seed 0. If one misses it now, seeds from 0 on are tried."""


def test_partitions_move_while_events_are_held_and_no_position_passes_what_is_not_settled() -> None:
    assert {seed: broken for seed in range(SCHEDULES) if (broken := run(topic_shared(seed)).broken)} == {}


@pytest.mark.parametrize("name", TOPIC_MUTATIONS)
def test_a_mistake_about_a_topic_is_found(name: str) -> None:
    with mutated(name):
        seeds = (FOUND_BY.get(name, 0), *range(LONGEST_SEARCH))
        assert any(run(topic_shared(seed)).broken for seed in seeds), f"nothing found that {TOPIC_MUTATIONS[name][0]}"
