"""How many suspects run together: half of those that wait, fewer after each death, and at last one alone."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from listener.claims.port import Lapsed
from listener.pipeline.suspects import Suspect, Suspects, group_size
from tests.unit.listener.test_hands import passages

AT_ONCE = 16
LIMITS = st.lists(st.none() | st.integers(1, 40), min_size=1, max_size=60)


def test_half_of_those_that_wait_run_together() -> None:
    assert [group_size([None] * count, AT_ONCE) for count in (1, 2, 3, 10, 100)] == [1, 1, 2, 5, 16]


@given(LIMITS)
def test_a_group_is_no_larger_than_any_of_its_members_may_be_in(limits: list[int | None]) -> None:
    size = group_size(limits, AT_ONCE)
    assert 1 <= size <= AT_ONCE
    assert all(most is None or size <= most for most in limits[:size])


@given(st.integers(0, 5_000), st.integers(1, 5_000))
def test_what_kills_its_owners_is_alone_after_a_few(first: int, at_once: int) -> None:
    company, deaths = at_once, 0
    while company != 1:
        company = group_size([Lapsed(True, company).most] * (first + 1), at_once)
        deaths += 1
    assert deaths <= 13


async def test_a_group_is_taken_from_the_front_and_what_is_put_back_waits_again() -> None:
    suspects = Suspects(at_once=AT_ONCE)
    waiting = asyncio.create_task(suspects.wait())
    limits = [None, 4, 1, None, 2, None]
    suspects.put_all([Suspect(passage, most) for passage, most in zip(passages(*"abcdef"), limits, strict=True)])
    await waiting
    groups = [suspects.take_group() for _ in range(4)]
    assert ["".join([suspect.passage.claim_id for suspect in group]) for group in groups] == ["ab", "c", "de", "f"]
    suspects.put_all(groups[2])
    await suspects.wait()
    assert [suspect.most for suspect in suspects.take_group()] == [None]
    assert [suspect.most for suspect in suspects.take_group()] == [2]
    waiting = asyncio.create_task(suspects.wait())
    await asyncio.sleep(0)
    assert not waiting.done()
    waiting.cancel()
