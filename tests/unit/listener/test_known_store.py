"""A listener looks which store PostgreSQL is: known, new, gone back, or doubtful."""

import pytest

from tests.support.claims import FakeBackends
from tests.support.fakes import as_a
from tests.support.stand_ins import NoPeers
from unlost.listener.claims.backends import ClaimBackends
from unlost.listener.claims.known_store import KnownStore
from unlost.listener.core.facts import Fact, StoreReplaced, StoreUnconfirmed, StoreWentBack
from unlost.listener.core.store_mark import UNCONFIRMED, StoreMark
from unlost.listener.ports.membership import Membership

MARK = StoreMark("g", 7, "postgres:1")


def at(version: int, generation: str = "g", incarnation: str = "postgres:1") -> StoreMark:
    return StoreMark(generation, version, incarnation)


def known(
    membership: NoPeers, backends: FakeBackends, mark: StoreMark | None = MARK
) -> tuple[KnownStore, list[Fact], list[str]]:
    facts, others = list[Fact](), list[str]()
    one = KnownStore(
        membership=as_a(Membership, membership),
        backends=as_a(ClaimBackends, backends),
        read_again=lambda: others.append("other"),
        facts=facts.append,
    )
    one.mark = mark
    return one, facts, others


async def test_the_first_look_takes_the_store_no_further():
    membership = NoPeers(MARK)
    one, _, _ = known(membership, FakeBackends(), mark=None)
    assert (await one.refresh_membership()).store == MARK
    assert membership.log == [None], "nobody has said yet that it is the store that it was"


async def test_without_a_look_at_postgres_redis_is_not_asked():
    backends = FakeBackends(("redis:1", 7))
    assert not await known(NoPeers(MARK), backends, mark=None)[0].look_for_redis()
    assert backends.looked_for == []


@pytest.mark.parametrize("remembered", [7, 6, 0])
async def test_a_store_that_redis_remembers_is_taken_further_from_then_on(remembered: int):
    membership, backends = NoPeers(at(8)), FakeBackends(("redis:1", remembered))
    one, _, _ = known(membership, backends)
    assert not await one.look_for_redis()
    assert (backends.redis, backends.looked_for) == ("redis:1", [MARK])
    await one.refresh_membership()
    assert membership.log == [MARK]


@pytest.mark.parametrize(
    ("version", "incarnation", "left"),
    [(7, "postgres:1", False), (8, "postgres:1", False), (7, "postgres:2", False), (8, "postgres:2", True)],
)
async def test_peers_that_are_further_on_under_another_name_have_left_this_one_behind(version, incarnation, left):
    one, _, _ = known(NoPeers(MARK), FakeBackends(("redis:1", version), at(version, incarnation=incarnation).name))
    assert not one.left_behind
    await one.look_for_redis()
    assert one.left_behind is left


async def test_a_store_less_far_than_redis_remembers_is_doubted():
    membership, backends = NoPeers(MARK), FakeBackends(("redis:1", 8))
    one, _, _ = known(membership, backends)
    assert await one.look_for_redis()
    assert backends.redis is None
    assert (await one.look_again()).store == at(8, "after g"), "it went back: another generation"
    assert membership.log == [None, "renew g after 7", None]


async def test_a_store_that_a_peer_has_taken_as_far_meanwhile_is_the_same():
    membership = NoPeers(at(8))
    one, _, _ = known(membership, FakeBackends(("redis:1", 8)))
    assert await one.look_for_redis()
    assert (await one.look_again()).store == at(8)
    assert membership.log == [None]


async def test_a_store_that_redis_does_not_know_is_doubted_by_a_newcomer():
    membership = NoPeers(MARK)
    one, _, _ = known(membership, FakeBackends(("redis:1", None)))
    assert await one.look_for_redis()
    assert (await one.look_again()).store.generation == f"{UNCONFIRMED}after g", "nothing shows that it went back"


async def test_a_store_that_nobody_has_taken_further_is_believed():
    backends = FakeBackends(("redis:1", None))
    assert not await known(NoPeers(at(0)), backends, mark=at(0))[0].look_for_redis()
    assert backends.redis == "redis:1"


async def test_a_listener_believes_a_known_store_although_redis_forgot():
    backends = FakeBackends(("redis:1", 7))
    one, _, _ = known(NoPeers(MARK), backends)
    await one.look_for_redis()
    backends.found, backends.redis = ("redis:2", None), None
    assert not await one.look_for_redis()
    assert backends.redis == "redis:2"


@pytest.mark.parametrize("away", [False, True])
async def test_a_newcomer_that_cannot_ask_redis_doubts_the_store_once_redis_is_known_to_be_away(away: bool):
    backends = FakeBackends(None)
    backends.redis_is_away = away
    one, _, _ = known(NoPeers(MARK), backends)
    assert await one.look_for_redis() is away


async def test_a_listener_that_knows_the_store_needs_no_redis():
    backends = FakeBackends(("redis:1", 7))
    one, _, _ = known(NoPeers(MARK), backends)
    await one.look_for_redis()
    backends.found, backends.redis_is_away = None, True
    assert not await one.look_for_redis()


async def test_a_store_that_went_back_gets_a_generation_that_has_come_further_than_it_ever_had():
    membership = NoPeers(at(3))
    one, _, _ = known(membership, FakeBackends())
    assert (await one.refresh_membership()).store == at(8, "after g")
    assert membership.log == [None, "renew g after 7", None]
    await one.refresh_membership()
    assert membership.log[3:] == [MARK], "it is known now"


def test_redis_files_under_the_store_that_is_seen_first():
    backends = FakeBackends()
    one, facts, others = known(NoPeers(MARK), backends, mark=None)
    one.see(MARK)
    assert (one.mark, backends.filed, facts, others) == (MARK, [MARK.name], [], [])


def test_the_same_store_further_on_changes_nothing():
    backends = FakeBackends()
    one, facts, others = known(NoPeers(MARK), backends)
    one.see(at(9))
    assert (one.mark, backends.filed, facts, others) == (at(9), [], [], [])
    assert not backends.lost.is_set()


def test_a_store_that_is_seen_to_have_gone_back_is_left_to_the_next_round():
    backends = FakeBackends()
    one, facts, others = known(NoPeers(MARK), backends)
    one.see(at(6))
    assert (one.mark, backends.filed, facts, others) == (MARK, [], [], [])
    assert backends.lost.is_set()


@pytest.mark.parametrize(
    ("seen", "fact"),
    [
        (at(8, "h"), StoreWentBack("h")),
        (at(8, "h", "postgres:2"), StoreWentBack("h")),
        (at(8, "g", "postgres:2"), StoreReplaced("postgres:2")),
        (at(8, f"{UNCONFIRMED}h"), StoreUnconfirmed(f"{UNCONFIRMED}h")),
        (at(8, f"{UNCONFIRMED}h", "postgres:2"), StoreUnconfirmed(f"{UNCONFIRMED}h")),
    ],
)
def test_another_store_is_filed_anew_reported_and_read_again(seen: StoreMark, fact: Fact):
    backends = FakeBackends()
    one, facts, others = known(NoPeers(MARK), backends)
    one.see(seen)
    assert (one.mark, backends.filed, facts, others) == (seen, [seen.name], [fact], ["other"])
