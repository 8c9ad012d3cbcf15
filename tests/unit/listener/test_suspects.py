"""How many suspects run together: one half, then the other, fewer after each death, and finally one alone."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.stand_ins import flights
from unlost.listener.core.claim import Lapsed
from unlost.listener.pipeline.suspects import Suspect, Suspects, group_size

AT_ONCE = 16
LIMITS = st.lists(st.none() | st.integers(1, 40), min_size=1, max_size=60)


@pytest.mark.parametrize(
    ("count", "groups"),
    [(1, [1]), (2, [1, 1]), (3, [2, 1]), (10, [5, 5]), (16, [8, 8]), (33, [16, 16, 1])],
)
async def test_one_half_runs_and_then_the_other(count: int, groups: list[int]) -> None:
    suspects = Suspects(at_once=AT_ONCE)
    for _ in range(2):
        suspects.put_all([Suspect(flight, None) for flight in flights(*(f"e{number}" for number in range(count)))])
        assert [len(suspects.take_group()) for _ in groups] == groups


async def test_new_suspects_count_with_those_that_wait() -> None:
    suspects = Suspects(at_once=AT_ONCE)
    suspects.put_all([Suspect(flight, None) for flight in flights(*"abcd")])
    assert len(suspects.take_group()) == 2
    suspects.put_all([Suspect(flight, None) for flight in flights(*"efghij")])
    assert [len(suspects.take_group()) for _ in range(2)] == [4, 4]


@given(LIMITS)
def test_a_group_is_no_larger_than_any_of_its_members_may_be_in(limits: list[int | None]) -> None:
    size = group_size(limits, AT_ONCE)
    assert 1 <= size <= AT_ONCE
    assert all(most is None or size <= most for most in limits[:size])


@given(st.integers(0, 5_000), st.integers(1, 5_000))
def test_an_event_that_kills_its_owners_is_alone_after_a_few(first: int, at_once: int) -> None:
    company, deaths = at_once, 0
    while company != 1:
        company = group_size([Lapsed(True, company).most] * (first + 1), min(at_once, first // 2 + 1))
        deaths += 1
    assert deaths <= 13


async def test_a_group_is_taken_from_the_front_and_what_is_put_back_waits_again() -> None:
    suspects = Suspects(at_once=AT_ONCE)
    waiting = asyncio.create_task(suspects.wait())
    limits = [None, 4, 1, None, 2, None]
    suspects.put_all([Suspect(flight, most) for flight, most in zip(flights(*"abcdef"), limits, strict=True)])
    await waiting
    groups = [suspects.take_group() for _ in range(4)]
    assert ["".join([suspect.flight.claim_id for suspect in group]) for group in groups] == ["ab", "c", "de", "f"]
    suspects.put_all(groups[2])
    await suspects.wait()
    assert [suspect.most for suspect in suspects.take_group()] == [None]
    assert [suspect.most for suspect in suspects.take_group()] == [2]
    waiting = asyncio.create_task(suspects.wait())
    await asyncio.sleep(0)
    assert not waiting.done()
    waiting.cancel()
