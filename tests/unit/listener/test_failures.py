"""After a failed attempt: a further attempt or none, what is kept, and which facts are stated."""

from collections.abc import Callable
from typing import Literal

import pytest

from tests.support.fakes import as_a
from tests.support.stand_ins import Watch, flight
from unlost.listener.core.attempts import Backoff
from unlost.listener.core.clocks import Clocks
from unlost.listener.core.errors import Failure, Permanent, Transient, Unrepeatable
from unlost.listener.core.facts import AttemptFailed, Fact
from unlost.listener.pipeline.failures import Failures, NextAttempt
from unlost.listener.pipeline.store_watch import StoreWatch


def failures(watch: Watch, rng: Callable[[], float] = lambda: 0.5) -> tuple[Failures, list[Fact]]:
    facts: list[Fact] = []
    clocks = Clocks(lambda: 12.0, lambda: 0.0)
    return Failures("store", watch=as_a(StoreWatch, watch), clocks=clocks, facts=facts.append, rng=rng), facts


@pytest.mark.parametrize(
    ("number", "error", "following"),
    [(1, Transient("x"), 2), (2, Transient("x"), 3), (3, Transient("x"), None), (1, Permanent("x"), None)],
)
async def test_an_attempt_follows_unless_it_was_the_last_or_can_never_succeed(
    number: int, error: Transient | Permanent, following: int | None
):
    watch, one = Watch(), flight()
    made, facts = failures(watch)
    again = await made.again(one, number, error, 7.0, Backoff.fixed(3, 2.0))
    assert again == (None if following is None else NextAttempt(following, 2.0))
    kind: Literal["permanent", "transient"] = "permanent" if isinstance(error, Permanent) else "transient"
    assert one.attempts == [Failure(12.0, "store", kind, type(error).__name__, "x")]
    assert watch.asked == [(error, 7.0)]
    (fact,) = facts
    assert isinstance(fact, AttemptFailed)
    assert (fact.stage, fact.error_class, fact.message, fact.count, fact.event_id) == ("store", kind, "x", 1, "e")
    assert fact.retried is (following is not None)


async def test_an_attempt_in_an_outage_is_repeated_and_nothing_of_it_is_kept():
    one = flight()
    made, facts = failures(Watch(outages=9))
    assert await made.again(one, 3, Transient("away"), 7.0, Backoff.fixed(3, 2.0)) == NextAttempt(3, None)
    assert one.attempts == []
    (fact,) = facts
    assert isinstance(fact, AttemptFailed)
    assert (fact.message, fact.retried, fact.count, fact.event_id) == ("away", True, 1, "e")


async def test_an_attempt_whose_effects_may_stand_is_the_last_although_postgresql_was_away():
    watch, one = Watch(outages=9), flight()
    made, facts = failures(watch)
    error = Unrepeatable("it committed by itself")
    assert await made.again(one, 1, error, 7.0, Backoff.fixed(3, 2.0), counts=lambda: False) is None
    assert one.attempts == [Failure(12.0, "store", "permanent", "Unrepeatable", "it committed by itself")]
    (fact,) = facts
    assert isinstance(fact, AttemptFailed)
    assert fact.retried is False
    assert watch.asked == []


async def test_a_batch_that_failed_together_names_no_event():
    made, facts = failures(Watch(outages=9))
    assert not await made.count([flight(), flight()], Transient("away"), 7.0)
    (fact,) = facts
    assert isinstance(fact, AttemptFailed)
    assert (fact.retried, fact.count, fact.event_id) == (True, 2, None)


@pytest.mark.parametrize(("drawn", "pause"), [(0.0, 4.0), (0.5, 6.0)])
async def test_a_random_number_decides_how_much_of_a_pause_is_taken(drawn: float, pause: float):
    made, _ = failures(Watch(), rng=lambda: drawn)
    again = await made.again(flight(), 1, Transient("x"), 7.0, Backoff(first=8.0))
    assert again == NextAttempt(2, pause)


async def test_each_pause_draws_a_number_of_its_own():
    made = Failures(
        "store", watch=as_a(StoreWatch, Watch()), clocks=Clocks(lambda: 12.0, lambda: 0.0), facts=lambda _: None
    )
    pauses = set()
    for number in range(20):
        again = await made.again(flight(f"e{number}"), 1, Transient("x"), 7.0, Backoff(first=8.0))
        assert again is not None
        assert again.pause is not None
        assert 4.0 <= again.pause <= 8.0
        pauses.add(again.pause)
    assert len(pauses) > 1
