"""Claims on a real Redis Cluster and behind real Sentinels: what a failover means for them."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from tests.support.servers import running_topology
from unlost.listener.claims.redis.adapter import RedisClaims
from unlost.listener.claims.redis.servers import redis_servers
from unlost.listener.core.claim import ClaimRequest, Done, HeldClaim, Won
from unlost.listener.core.errors import Permanent, Transient
from unlost.listener.core.store_mark import StoreMark
from unlost.ops.system.redis_cluster import ValkeyCluster
from unlost.ops.system.redis_sentinels import ValkeyWithSentinels

MANY = [ClaimRequest(f"e{i}", bytes(32)) for i in range(300)]
HELD = [HeldClaim(one.event_id, one.digest) for one in MANY]
WITHIN = 20.0
PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "redis.md"


@pytest.fixture(scope="module")
def cluster() -> Iterator[ValkeyCluster]:
    """A Cluster that loses nodes."""
    with running_topology(ValkeyCluster) as cluster:
        yield cluster


@pytest.fixture
def sentinels() -> Iterator[ValkeyWithSentinels]:
    with running_topology(ValkeyWithSentinels) as sentinels:
        yield sentinels


@pytest.fixture
async def claims_at() -> AsyncIterator[Callable[..., RedisClaims]]:
    made = []

    def make(url: str, token: str = "a") -> RedisClaims:
        made.append(RedisClaims(redis_servers(url), token=token, group="g", lease_seconds=30, window_seconds=600))
        return made[-1]

    yield make
    for one in made:
        await one.close()


async def another_place(claims: RedisClaims, before: str) -> str:
    """Ask as the manager does, until the place has another name."""
    deadline = time.monotonic() + WITHIN
    while time.monotonic() < deadline:
        try:
            if (place := await claims.place()) != before:
                return place
        except Transient:
            pass
        await asyncio.sleep(0.05)
    raise AssertionError(f"still {before}")


async def refused(call: Awaitable[object]) -> str:
    with pytest.raises(Transient) as error:
        await call
    return str(error.value)


async def until_refused(call: Callable[[], Awaitable[object]]) -> None:
    async with asyncio.timeout(WITHIN):
        with contextlib.suppress(Transient):
            while True:
                await call()


async def test_each_primary_is_part_of_one_place(cluster: ValkeyCluster, claims_at: Callable[..., RedisClaims]) -> None:
    one, other = claims_at(cluster.url), claims_at(cluster.url.replace(",", ",127.0.0.1:1,"), "b")
    place = await one.place()
    assert await other.place() == place
    run_ids = {cluster.ask(node, "INFO", "server").split(b"run_id:")[1][:40].decode() for node in cluster.primaries()}
    assert {part.split(":")[1].split(".")[0] for part in place.removeprefix("redis:").split("+")} == run_ids
    assert await one.claim(MANY, take_over=0) == [Won(1, 0)] * len(MANY)
    kept = [cluster.ask(node, "DBSIZE") for node in cluster.primaries()]
    assert min(kept) > len(MANY) / 6, "each primary keeps a good part"
    await one.settle(MANY, "done")
    assert await other.claim(MANY, take_over=0) == [Done(same=True)] * len(MANY)
    assert await other.look(MANY) == [True] * len(MANY)


async def test_an_answer_that_was_lost_with_its_node_frozen_is_recognised(
    cluster: ValkeyCluster, claims_at: Callable[..., RedisClaims]
) -> None:
    claims = claims_at(cluster.url)
    await claims.place()
    victim = cluster.primaries()[1]
    victim.freeze()
    try:
        assert "claiming events" in await refused(claims.claim([*map(_another, MANY)], take_over=0))
    finally:
        victim.thaw()
    assert await claims.claim([*map(_another, MANY)], take_over=0) == [Won(1, 0)] * len(MANY)


def _another(request: ClaimRequest) -> ClaimRequest:
    return ClaimRequest(f"another {request.event_id}", request.digest)


async def test_a_primary_that_hands_over_is_another_place_and_refuses_what_was_meant_for_it(
    cluster: ValkeyCluster, claims_at: Callable[..., RedisClaims]
) -> None:
    claims = claims_at(cluster.url)
    before = await claims.place()
    await claims.claim(MANY, take_over=0)
    cluster.fail_over()
    said = await refused(claims.renew(HELD))
    assert "MOVED" in said or "PLACECHANGED" in said or "Moved" in said
    after = await another_place(claims, before)
    assert len({*after.split("+")} - {*before.split("+")}) == 1, "the other primaries are what they were"


async def test_a_primary_that_dies_is_replaced(cluster: ValkeyCluster, claims_at: Callable[..., RedisClaims]) -> None:
    claims = claims_at(cluster.url)
    before = await claims.place()
    victim = cluster.primaries()[0]
    replica = cluster.replica_of(victim)
    victim.kill()
    assert await refused(claims.claim(MANY, take_over=0))
    after = await another_place(claims, before)
    cluster.restart_all()
    assert replica in cluster.primaries()
    assert await claims.place() == after, "a node that comes back as a replica changes nothing"


@pytest.mark.parametrize("planned", [True, False], ids=["planned", "unplanned"])
async def test_sentinels_lead_to_the_new_primary(
    sentinels: ValkeyWithSentinels, valkey_server, claims_at: Callable[..., RedisClaims], planned: bool
) -> None:
    # Of five Sentinels one does not answer, and one is none.
    claims = claims_at(sentinels.url.replace("@", f"@127.0.0.1:1,127.0.0.1:{valkey_server.port},"))
    before = await claims.place()
    assert all(isinstance(answer, Won) for answer in await claims.claim(MANY, take_over=0))
    if planned:
        sentinels.fail_over()
    else:
        sentinels.primary().kill()
    await until_refused(lambda: claims.renew(HELD))  # a primary that hands over serves until it learns of it
    after = await another_place(claims, before)
    assert await claims.replicate(HELD) == [True] * len(HELD)
    assert await claims.place() == after
    unknown = claims_at(sentinels.url.replace("/claims/", "/nobody/"))
    assert "no Sentinel names the primary 'nobody': 127.0.0.1: does not know it" in await refused(unknown.place())


async def test_several_servers_that_are_no_cluster_are_a_mistake(
    valkey_server, redis_url: str, claims_at: Callable[..., RedisClaims]
) -> None:
    with pytest.raises(Permanent, match=r"127\.0\.0\.1 is no node of a Redis Cluster"):
        await claims_at(
            redis_url.replace(f":{valkey_server.port}/", f":{valkey_server.port},127.0.0.1:{valkey_server.port}/")
        ).place()


async def test_the_rights_of_the_page_are_enough(cluster: ValkeyCluster, claims_at: Callable[..., RedisClaims]) -> None:
    _, line = [one for one in PAGE.read_text().splitlines() if one.startswith("ACL SETUSER")]
    for node in cluster.nodes:
        cluster.ask(node, *line.replace("{unlost.", "{g.").replace(" claims ", " claims reset ").split())
    claims = claims_at(cluster.url.replace("redis://:", "redis://claims:").replace(cluster.password, "password"))
    claims.file_under("store")
    await claims.place()
    assert await claims.remember(StoreMark("g", 1, "i")) is None
    few = [ClaimRequest(f"few {i}", bytes(32)) for i in range(20)]
    assert await claims.claim(few, take_over=0) == [Won(1, 0)] * 20
    assert await claims.look(few) == [False] * 20
    assert await claims.settle(few, "done") == [True] * 20
    denied = cluster.ask(cluster.primaries()[0], "ACL", "LOG")
    assert denied == [], "nothing was tried in vain"
