"""Each place that granted a claim learns its outcome. A claim that one of them no longer grants is lost."""

import pytest

from tests.support.claims import FakePlace
from tests.support.fakes import as_a
from unlost.listener.claims.backends import ClaimBackends
from unlost.listener.claims.leases import Leases
from unlost.listener.core.breaker import Breaker
from unlost.listener.core.claim import ClaimRequest, HeldClaim, Verdict, Won
from unlost.listener.core.errors import Transient
from unlost.listener.core.facts import Fact, LeasesLost
from unlost.listener.ports.claims import Claims, StoreMemory

REDIS, POSTGRES = "redis:1", "postgres:1"


def ask(event_id: str) -> ClaimRequest:
    return ClaimRequest(event_id, bytes(32))


class Held:
    """Leases in two places, with a clock that stands still until the test sets it."""

    def __init__(self, *places: str) -> None:
        self.now = 100.0
        self.redis, self.postgres = FakePlace(), FakePlace()
        self.facts: list[Fact] = []
        self.lost: list[str] = []
        backends = ClaimBackends(
            redis=as_a(StoreMemory, self.redis), postgres=as_a(Claims, self.postgres), redis_breaker=breaker(),
            store_breaker=breaker(), clock=lambda: self.now,
        )  # fmt: skip
        backends.redis, backends.postgres = REDIS, POSTGRES
        self.leases = Leases(
            backends, seconds=10.0, lost=self.lost.extend, facts=self.facts.append, clock=lambda: self.now
        )
        self.leases.places = frozenset(places)
        self.backends = backends

    def win(self, *event_ids: str, company: int = 0, places: tuple[str, ...] | None = None) -> None:
        requests = [ask(event_id) for event_id in event_ids]
        granted = self.leases.places if places is None else frozenset(places)
        self.leases.add(requests, [Won(2, 1, 1) for _ in requests], granted, self.now, company=company)


def breaker() -> Breaker:
    return Breaker("any", fail_max=9, reset_seconds=1, facts=lambda _: None)


@pytest.mark.parametrize("verdict", ["done", "dead"])
async def test_settling_announces_to_each_place_and_ends_the_claim(verdict: Verdict):
    held = Held(REDIS, POSTGRES)
    held.win("a", "b", "c")
    assert await held.leases.settle(["a", "c", "unknown"], verdict)
    assert held.redis.calls == held.postgres.calls == [(verdict, ask("a"), ask("c"))]
    assert [claim.request.event_id for claim in held.leases.all()] == ["b"]
    assert held.leases.ending == set()


async def test_each_place_gets_only_what_it_granted():
    held = Held(REDIS, POSTGRES)
    held.win("a", places=(REDIS,))
    held.win("b", places=(POSTGRES,))
    await held.leases.settle(["a", "b"], "done")
    assert (held.redis.calls, held.postgres.calls) == ([("done", ask("a"))], [("done", ask("b"))])


@pytest.mark.parametrize(("verdict", "left"), [("done", 0), ("dead", 1)])
async def test_a_letter_that_could_be_announced_nowhere_stays_held(verdict: Verdict, left: int):
    held = Held(REDIS)
    held.win("a")
    held.redis.away = True
    assert not await held.leases.settle(["a"], verdict)
    assert len(held.leases) == left
    held.backends.redis = None
    held.win("a", places=(REDIS,))
    assert not await held.leases.settle(["a"], verdict)
    assert held.redis.calls == [(verdict, ask("a"))], "out of reach, so not asked"


async def test_one_place_that_knows_is_enough():
    held = Held(REDIS, POSTGRES)
    held.win("a")
    held.redis.away = True
    assert await held.leases.settle(["a"], "dead")
    assert len(held.leases) == 0
    assert await held.leases.settle(["a"], "dead"), "nothing is left to announce"


async def test_releasing_announces_to_each_place_and_ends_the_claim():
    held = Held(REDIS)
    held.win("a", "b")
    await held.leases.release(["a", "unknown"])
    assert held.redis.calls == [("release", "a")]
    assert not held.leases.is_held("a")
    assert held.leases.is_held("b")


async def test_a_further_place_gets_all_that_is_known_of_each():
    held = Held(REDIS)
    held.win("a", "b", company=3)
    held.postgres.foreign = {"b"}
    assert await held.leases.replicate(POSTGRES) == [ask("b")]
    held_claims = [HeldClaim(event_id, bytes(32), 2, 1, 1, 3) for event_id in "ab"]
    assert held.postgres.calls == [("replicate", *held_claims)]
    held.leases.places = frozenset({REDIS, POSTGRES})
    assert (held.leases.is_held("a"), held.leases.is_held("b")) == (True, False)
    assert await Held(REDIS).leases.replicate(POSTGRES) == []


async def test_a_claim_that_is_not_renewed_is_lost_and_reported_once():
    held = Held(REDIS)
    held.win("a", "b", "c")
    held.redis.foreign = {"b", "c"}
    held.leases.ending = {"c"}
    held.now += 8.0
    await held.leases.renew()
    assert (held.lost, held.facts) == (["b"], [LeasesLost(["b"])])
    held.now += 8.0
    assert held.leases.is_held("a"), "it was granted again"
    assert not held.leases.is_held("c"), "it was not, but its outcome is being announced"
    await held.leases.renew()
    assert held.lost == ["b"]


async def test_a_claim_that_ran_out_is_lost():
    held = Held(REDIS)
    held.win("a")
    held.now += 5.0
    held.win("b")
    held.now += 5.0
    held.leases.lose_what_ran_out()
    assert (held.lost, held.facts) == (["a"], [LeasesLost(["a"])])
    held.leases.places = frozenset()
    held.now += 50.0
    held.leases.lose_what_ran_out()
    assert held.lost == ["a"], "without a declared place, nothing can refuse it"


async def test_a_claim_that_ran_out_is_not_replicated():
    """A peer may have taken it over, and buried it. The other place would keep that peer's letter out."""
    held = Held(REDIS)
    held.win("a")
    held.now += 5.0
    held.win("b")
    held.now += 5.0
    assert await held.leases.replicate(POSTGRES) == []
    assert held.lost == ["a"]
    assert [call[1].event_id for call in held.postgres.calls] == ["b"]  # type: ignore[attr-defined]


async def test_where_one_place_is_away_the_others_are_renewed_all_the_same():
    held = Held(REDIS, POSTGRES)
    held.win("a")
    held.redis.away = True
    with pytest.raises(Transient):
        await held.leases.renew()
    assert [call[0] for call in held.postgres.calls] == ["renew"]


async def test_only_what_is_asked_for_is_confirmed_and_not_where_a_place_is_out_of_reach():
    held = Held(REDIS)
    held.win("a", "b", company=2)
    await held.leases.confirm(["b"])
    assert held.redis.calls == [("renew", HeldClaim("b", bytes(32), 2, 1, 1, 2))]
    held.backends.redis = None
    with pytest.raises(Transient, match="out of reach"):
        await held.leases.confirm(["b"])
