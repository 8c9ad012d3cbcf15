"""A Redis without room remembers settled events for a shorter time. It refuses no claim."""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis import Redis

from tests.support.servers import running_valkey
from unlost.listener.claims.redis.adapter import RedisClaims
from unlost.listener.claims.redis.memory import ENOUGH, FULL, NEARLY_FULL, ROOMY, SHORTEST_SECONDS, remembered_seconds
from unlost.listener.claims.redis.servers import redis_servers
from unlost.listener.core.claim import ClaimRequest, Done, HeldClaim, Won
from unlost.listener.core.errors import Transient
from unlost.listener.core.store_mark import StoreMark
from unlost.ops.system.valkey import ValkeyServer

WINDOW = 7 * 86_400.0
BATCH = 1_000
SMALL = 8 * 1024 * 1024


@given(st.floats(0, 2), st.floats(0, 2), st.floats(1, 1e6))
def test_the_fuller_it_is_the_shorter_is_its_memory(fill: float, fuller: float, window: float):
    fill, fuller = sorted((fill, fuller))
    assert 0 <= remembered_seconds(fuller, window) <= remembered_seconds(fill, window) <= window * 1.000001


def test_memory_ends_where_it_must():
    assert remembered_seconds(ROOMY, WINDOW) == pytest.approx(WINDOW)
    assert remembered_seconds(NEARLY_FULL, WINDOW) == SHORTEST_SECONDS
    assert remembered_seconds(FULL, WINDOW) == 0
    assert remembered_seconds(0.0, 30.0) == 30.0


@pytest.fixture(scope="module")
def server() -> Iterator[ValkeyServer]:
    with running_valkey(options={"maxmemory": SMALL, "maxmemory-policy": "noeviction", "databases": 1}) as server:
        yield server


@pytest.fixture
def admin(server: ValkeyServer) -> Iterator[Redis]:
    with Redis.from_url(server.url) as client:
        client.flushall()
        client.config_resetstat()  # the server also counts the errors of other tests
        yield client


@contextlib.asynccontextmanager
async def claims_at(server: ValkeyServer) -> AsyncIterator[RedisClaims]:
    claims = RedisClaims(
        redis_servers(server.url, timeout=10.0), token="a", group="g", lease_seconds=30, window_seconds=WINDOW
    )
    try:
        yield claims
    finally:
        await claims.close()


def batch(number: int) -> list[ClaimRequest]:
    return [ClaimRequest(f"e{number}.{i}", bytes(32)) for i in range(BATCH)]


def named(request: ClaimRequest) -> bytes:
    """The last part of its key."""
    return hashlib.blake2b(request.event_id.encode(), digest_size=16).digest()


async def a_round(claims: RedisClaims) -> None:
    """As a listener does it twice a second."""
    await claims.place()
    await claims.remember(StoreMark("g", 1, "i"))
    while await claims.make_room():
        pass


async def taken(claims: RedisClaims, requests: list[ClaimRequest]) -> bool:
    """Claim and settle as a listener that does not see how full it is. False once there is no room."""
    claims.room.fill = 0.0
    try:
        await claims.claim(requests, take_over=0)
    except Transient as error:
        assert "OutOfMemory" in str(error)  # noqa: PT017
        return False
    await claims.settle(requests, "done")
    return True


async def test_events_of_many_times_its_memory_pass_through(server: ValkeyServer, admin: Redis) -> None:
    async with claims_at(server) as claims:
        await a_round(claims)
        assert claims.remembers_seconds == pytest.approx(WINDOW)
        for number in range(250):
            assert await claims.claim(batch(number), take_over=0) == [Won(1, 0)] * BATCH
            assert await claims.settle(batch(number), "done") == [True] * BATCH
            if number % 10 == 9:
                await a_round(claims)
        assert claims.remembers_seconds < WINDOW / 10
        assert admin.dbsize() < 130_000
        assert admin.info("errorstats").get("errorstat_OOM") is None


async def test_one_that_is_full_of_old_events_forgets_them(server: ValkeyServer, admin: Redis) -> None:
    async with claims_at(server) as claims:
        await a_round(claims)
        number = 0
        while await taken(claims, batch(number)):
            number += 1
        held = batch(number)[:1]
        async with asyncio.timeout(20):
            await a_round(claims)
        assert await claims.claim(batch(number + 1), take_over=0) == [Won(1, 0)] * BATCH
        assert await claims.settle(batch(number + 1), "done") == [True] * BATCH
        assert await claims.claim(held, take_over=0) == [Won(1, 0)], "no lease was forgotten"


async def test_a_full_redis_forgets_the_longest_unused_events_first(server: ValkeyServer, admin: Redis) -> None:
    async with claims_at(server) as claims:
        await claims.place()
        async with asyncio.timeout(20):
            while claims.room.fill >= ROOMY:  # the server frees memory behind its answers
                await claims.place()
        await a_round(claims)
        few = batch(0)[:20]
        await claims.claim(few, take_over=0)
        await claims.settle(few[1:], "done")
        for key in admin.keys("{g.0}*"):
            assert isinstance(key, bytes)
            if key.endswith(tuple(named(one) for one in few[:10])):
                admin.restore(key, 600_000, bytes(admin.dump(key) or b""), replace=True, idletime=1_000)
        claims.room.fill = FULL
        assert await claims.make_room() == 0, "there is room enough now"
        assert claims.room.fill < ENOUGH
        assert await claims.look(few) == [False] * 10 + [True] * 10
        assert await claims.renew([HeldClaim(few[0].event_id, bytes(32))]) == [True], "a lease is no settled event"


async def test_events_are_settled_although_redis_cannot_remember_them(server: ValkeyServer, admin: Redis) -> None:
    async with claims_at(server) as claims:
        await a_round(claims)
        await claims.claim(batch(0), take_over=0)
        admin.config_set("maxmemory", 1024 * 1024)  # less than it uses
        assert await claims.settle(batch(0), "done") == [True] * BATCH
        assert await claims.look(batch(0)) == [False] * BATCH, "their room is free"
        assert await claims.place(), "a look at the place writes nothing"
        admin.config_set("maxmemory", SMALL)


async def test_one_that_makes_room_by_itself_is_left_alone(server: ValkeyServer, admin: Redis) -> None:
    admin.config_set("maxmemory-policy", "volatile-ttl")
    try:
        async with claims_at(server) as claims:
            await a_round(claims)
            place = await claims.place()
            for number in range(150):
                assert await claims.claim(batch(number), take_over=0) == [Won(1, 0)] * BATCH
                assert await claims.settle(batch(number), "done") == [True] * BATCH
            assert await claims.place() == place, "its mark stays"
            assert claims.remembers_seconds == WINDOW
            assert await claims.claim(batch(149)[:20], take_over=0) == [Done(same=True)] * 20
            assert admin.info("stats")["evicted_keys"] > 0
    finally:
        admin.config_set("maxmemory-policy", "noeviction")
