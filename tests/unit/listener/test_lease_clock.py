"""A claim ends by its owner's clock no later than by the server's: it counts from before the request was sent."""

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import pytest

from unlost.listener.claims.manager import TICK_SECONDS, ClaimManager
from unlost.listener.core.breaker import Breaker
from unlost.listener.core.claim import UNHANDLED, ClaimRequest, HeldClaim, Verdict, Won
from unlost.listener.core.store_mark import Remembered, StoreMark
from unlost.listener.ports.membership import MembershipView

LEASE, SLOW = 10.0, 4.0
MARK = StoreMark("g", 1, "1")
ASK = ClaimRequest("e", bytes(32))


class Slow:
    """A place that grants everything, and whose answers take a while."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.now = 0.0
        self.told: list[tuple[object, ...]] = []

    async def place(self) -> str:
        return self.name

    def file_under(self, store: str) -> None:
        """There is only one store."""

    async def remember(self, store: StoreMark) -> Remembered | None:
        return Remembered(store.version, store.name)

    async def claim(self, requests: Sequence[ClaimRequest], **_: object) -> list[Won]:
        self.now += SLOW
        return [Won(1, 0) for _ in requests]

    async def replicate(self, held_claims: Sequence[HeldClaim]) -> list[bool]:
        self.now += SLOW
        return [True for _ in held_claims]

    renew = replicate

    async def settle(self, requests: Sequence[ClaimRequest], verdict: str) -> list[bool]:
        self.told.append((*requests, verdict))
        return [True for _ in requests]


class FakeMembership:
    """No other member."""

    life_seconds = 1000.0
    handler = None

    def __init__(self) -> None:
        self.mine: frozenset[str] = frozenset()

    async def refresh(self, known: object = None) -> MembershipView:
        return MembershipView("a:1", self.mine or None, {}, "postgres:1", MARK)

    async def renew(self, generation: str, version: int) -> None:
        """Nothing went back."""

    async def declare(self, places: frozenset[str]) -> MembershipView:
        self.mine = places
        return await self.refresh()


def breaker(name: str) -> Breaker:
    return Breaker(name, fail_max=2, reset_seconds=1, facts=lambda _: None)


@pytest.fixture
async def desk_and_redis() -> tuple[ClaimManager, Slow]:
    redis = Slow("redis:1.m")
    manager = ClaimManager(
        membership=cast("Any", FakeMembership()), postgres=cast("Any", Slow("postgres:1")), redis=cast("Any", redis),
        redis_breaker=breaker("redis"), store_breaker=breaker("postgres"), lease_seconds=LEASE, facts=lambda _: None,
        clock=lambda: redis.now,
    )  # fmt: skip
    await manager.join()
    return manager, redis


async def claimed(manager: ClaimManager, redis: Slow) -> float:
    asked_at = redis.now
    await manager.claim([ASK], take_over=0)
    return asked_at


async def renewed(manager: ClaimManager, redis: Slow) -> float:
    await manager.claim([ASK], take_over=0)
    asked_at = redis.now
    await manager.leases.renew()
    return asked_at


async def replicated(manager: ClaimManager, redis: Slow) -> float:
    await manager.claim([ASK], take_over=0)
    asked_at = redis.now
    await manager.leases.replicate("redis:1.m")
    return asked_at


@pytest.mark.parametrize("grant", [claimed, renewed, replicated])
async def test_a_lease_counts_from_its_request(desk_and_redis: tuple[ClaimManager, Slow], grant: Any) -> None:
    manager, redis = desk_and_redis
    asked_at = await grant(manager, redis)
    redis.now = asked_at + LEASE - 0.1
    assert manager.leases.is_held("e")
    redis.now = asked_at + LEASE + 0.1
    assert not manager.leases.is_held("e")


@pytest.mark.parametrize(("take_over", "company"), [(3, 3), (1, 1), (0, 0), (UNHANDLED, 0)])
async def test_with_how_many_suspects_it_was_taken_over_is_told_to_every_further_place(
    desk_and_redis: tuple[ClaimManager, Slow], take_over: int, company: int
) -> None:
    manager, _ = desk_and_redis
    await manager.claim([ASK], take_over=take_over)
    (held,) = manager.leases.all()
    assert held.as_held == HeldClaim("e", ASK.digest, 1, 0, 0, company)


async def test_the_roll_is_refreshed_twice_a_second_and_not_all_the_time(
    desk_and_redis: tuple[ClaimManager, Slow],
) -> None:
    manager, redis = desk_and_redis
    redis.now = 1_000_000.0
    rounds, refresh = 0, manager._membership.refresh

    async def counted(known: object = None) -> MembershipView:
        nonlocal rounds
        rounds += 1
        return await refresh(cast("Any", known))

    cast("Any", manager._membership).refresh = counted
    running = asyncio.create_task(manager.run())
    await asyncio.sleep(TICK_SECONDS * 0.8)  # that nothing happens can only be waited for
    running.cancel()
    await asyncio.wait([running])
    assert 1 <= rounds <= 2


@pytest.mark.parametrize("verdict", ["done", "dead"])
async def test_an_end_is_told_as_what_it_is(desk_and_redis: tuple[ClaimManager, Slow], verdict: Verdict) -> None:
    manager, redis = desk_and_redis
    await manager.claim([ASK], take_over=0)
    assert await manager.leases.settle(["e"], verdict)
    assert redis.told == [(ASK, verdict)]
    assert not manager.leases.is_held("e")
