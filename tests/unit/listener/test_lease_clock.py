"""A claim ends by its owner's clock no later than by the server's: it counts from before the request was sent."""

import asyncio
from typing import Any

import pytest

from tests.support.claims import FakePlace
from tests.support.fakes import as_a
from tests.support.stand_ins import NoPeers
from unlost.listener.claims.manager import TICK_SECONDS, ClaimManager
from unlost.listener.core.breaker import Breaker
from unlost.listener.core.claim import UNHANDLED, ClaimRequest, HeldClaim, Verdict
from unlost.listener.core.store_mark import StoreMark
from unlost.listener.ports.claims import Claims, StoreMemory
from unlost.listener.ports.membership import Membership

LEASE, SLOW = 10.0, 4.0
MARK = StoreMark("g", 1, "postgres:1")
ASK = ClaimRequest("e", bytes(32))


def breaker(name: str) -> Breaker:
    return Breaker(name, fail_max=2, reset_seconds=1, facts=lambda _: None)


@pytest.fixture
def membership() -> NoPeers:
    return NoPeers(MARK)


@pytest.fixture
async def manager_and_redis(membership: NoPeers) -> tuple[ClaimManager, FakePlace]:
    redis = FakePlace("redis:1.m", takes=SLOW)
    manager = ClaimManager(
        membership=as_a(Membership, membership), postgres=as_a(Claims, FakePlace("postgres:1")),
        redis=as_a(StoreMemory, redis),
        redis_breaker=breaker("redis"), store_breaker=breaker("postgres"), lease_seconds=LEASE,
        lost=lambda _: None, read_again=lambda: None, facts=lambda _: None, clock=lambda: redis.now,
    )  # fmt: skip
    await manager.join()
    return manager, redis


async def claimed(manager: ClaimManager, redis: FakePlace) -> float:
    asked_at = redis.now
    await manager.claim([ASK], take_over=0)
    return asked_at


async def renewed(manager: ClaimManager, redis: FakePlace) -> float:
    await manager.claim([ASK], take_over=0)
    asked_at = redis.now
    await manager.leases.renew()
    return asked_at


async def replicated(manager: ClaimManager, redis: FakePlace) -> float:
    await manager.claim([ASK], take_over=0)
    asked_at = redis.now
    await manager.leases.replicate("redis:1.m")
    return asked_at


@pytest.mark.parametrize("grant", [claimed, renewed, replicated])
async def test_a_lease_counts_from_its_request(manager_and_redis: tuple[ClaimManager, FakePlace], grant: Any) -> None:
    manager, redis = manager_and_redis
    asked_at = await grant(manager, redis)
    redis.now = asked_at + LEASE - 0.1
    assert manager.leases.is_held("e")
    redis.now = asked_at + LEASE + 0.1
    assert not manager.leases.is_held("e")


@pytest.mark.parametrize(("take_over", "company"), [(3, 3), (1, 1), (0, 0), (UNHANDLED, 0)])
async def test_with_how_many_suspects_it_was_taken_over_is_sent_to_every_further_place(
    manager_and_redis: tuple[ClaimManager, FakePlace], take_over: int, company: int
) -> None:
    manager, _ = manager_and_redis
    await manager.claim([ASK], take_over=take_over)
    (held,) = manager.leases.all()
    assert held.as_held == HeldClaim("e", ASK.digest, 1, 0, 0, company)


async def test_the_roll_is_refreshed_twice_a_second_and_not_all_the_time(
    manager_and_redis: tuple[ClaimManager, FakePlace], membership: NoPeers
) -> None:
    manager, redis = manager_and_redis
    redis.now = 1_000_000.0
    before = len(membership.log)
    running = asyncio.create_task(manager.run())
    await asyncio.sleep(TICK_SECONDS * 0.8)  # that nothing happens can only be waited for
    running.cancel()
    await asyncio.wait([running])
    assert 1 <= len(membership.log) - before <= 2


@pytest.mark.parametrize("verdict", ["done", "dead"])
async def test_an_end_is_announced_as_such(manager_and_redis: tuple[ClaimManager, FakePlace], verdict: Verdict) -> None:
    manager, redis = manager_and_redis
    await manager.claim([ASK], take_over=0)
    assert await manager.leases.settle(["e"], verdict)
    assert redis.calls[-1] == (verdict, ASK)
    assert not manager.leases.is_held("e")
