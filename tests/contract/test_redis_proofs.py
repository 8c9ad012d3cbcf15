"""With a secret, only its owners can make an event look settled: a real Redis, and somebody else who writes to it."""

import hashlib
import struct
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

from tests.support.wrong_redis import answering
from unlost.listener.claims.redis.adapter import RedisClaims
from unlost.listener.claims.redis.client import connect_redis
from unlost.listener.claims.redis.names import STATES, names_for
from unlost.listener.claims.redis.servers import redis_servers
from unlost.listener.core.claim import UNHANDLED, ClaimRequest, Dead, Done, Held, Verdict, Won
from unlost.listener.core.errors import Transient

SECRET, OTHER = "s" * 32, "t" * 32
MANY = [f"e{number}" for number in range(40)]
"""More than ``FEW`` in a script, so that all ways of writing are used."""


def ask(event_id: str, content: str = "content") -> ClaimRequest:
    return ClaimRequest(event_id, hashlib.sha256(content.encode()).digest())


class Stage:
    def __init__(self, url: str, client: Redis) -> None:
        self.url = url
        self.client = client
        self._made: list[RedisClaims] = []

    def listener(self, secret: str = SECRET, *, token: str = "a", group: str = "g", store: str = "s1") -> RedisClaims:
        made = RedisClaims(
            redis_servers(self.url, timeout=10.0),
            token=token,
            group=group,
            lease_seconds=30,
            window_seconds=600,
            secret=secret,
        )
        made.file_under(store)
        self._made.append(made)
        return made

    async def records(self) -> dict[bytes, bytes]:
        """All claims by key. An attacker sees them."""
        keys = [key async for key in self.client.scan_iter("{*") if not key.endswith((b"place", b"store"))]
        found = {key: await self.client.get(key) for key in keys}
        return {key: one for key, one in found.items() if isinstance(one, bytes)}

    async def the_one(self) -> tuple[bytes, bytes]:
        ((key, record),) = (await self.records()).items()
        return key, record

    async def close(self) -> None:
        for one in self._made:
            await one.close()
        await self.client.aclose()


@pytest.fixture
async def stage(redis_url: str) -> AsyncIterator[Stage]:
    client = connect_redis(redis_url, timeout=10.0)
    await client.flushdb()
    made = Stage(redis_url, client)
    yield made
    await made.close()


async def claimed(claims: RedisClaims, *event_ids: str, take_over: int = UNHANDLED) -> list[Any]:
    return await claims.claim([ask(one) for one in event_ids], take_over=take_over)


@pytest.mark.parametrize(("verdict", "answer"), [("done", Done(True)), ("dead", Dead(True))])
async def test_peers_believe_what_a_listener_settles(stage: Stage, verdict: Verdict, answer: Done | Dead):
    one, two = stage.listener(), stage.listener(token="b")
    assert await claimed(one, *MANY) == [Won(1, 0)] * len(MANY)
    [held] = await claimed(two, "e0")
    assert held == Held(held.seconds_left, True)
    assert held.seconds_left == pytest.approx(30, abs=5)
    assert await one.settle([ask(event_id) for event_id in MANY], verdict) == [True] * len(MANY)
    assert await claimed(two, *MANY, "new") == [answer] * len(MANY) + [Won(1, 0)]
    assert await two.claim([ask("e1", "other")], take_over=UNHANDLED) == [type(answer)(False)]
    assert await two.look([ask("e0"), ask("e1", "other"), ask("new"), ask("unknown")]) == [True, False, False, False]
    assert (one.forged, two.forged) == (0, 0)


RESTS = {
    "nothing": b"", "short": b"short", "as without a secret": ask("e").digest[:8], "digest": ask("e").digest[:16],
    "whole": b"x" * 16, "long": b"y" * 5_000,
}  # fmt: skip


@pytest.mark.parametrize("state", STATES.values(), ids=STATES)
@pytest.mark.parametrize("rest", RESTS.values(), ids=RESTS)
async def test_a_record_that_somebody_else_wrote_is_deleted_and_the_event_claimed(
    stage: Stage, state: bytes, rest: bytes
):
    claims = stage.listener()
    await claimed(claims, "e")
    key, _ = await stage.the_one()
    await stage.client.set(key, state + rest)
    assert await claims.look([ask("e")]) == [False]
    assert await claimed(claims, "before", "e", "after") == [Won(1, 0)] * 3
    assert claims.forged == 1
    assert await claims.settle([ask("e")], "done") == [True]
    assert await claimed(stage.listener(token="b"), "e") == [Done(True)]


async def test_a_lease_cannot_be_turned_into_a_settled_record_nor_dead_into_done(stage: Stage):
    claims = stage.listener()
    await claimed(claims, "e")
    key, lease = await stage.the_one()
    await stage.client.set(key, b"D" + lease[1:])
    assert await claimed(claims, "e") == [Won(1, 0)]
    await claims.settle([ask("e")], "dead")
    _, dead = await stage.the_one()
    await stage.client.set(key, b"D" + dead[1:])
    assert await claimed(claims, "e") == [Won(1, 0)]
    assert claims.forged == 2


@pytest.mark.parametrize("verdict", list(STATES))
async def test_the_record_of_one_content_cannot_be_turned_into_that_of_another(stage: Stage, verdict: Verdict):
    """The content is known to somebody who also publishes. The digest is only masked, so its bits can be changed."""
    claims = stage.listener()
    await claimed(claims, "e")
    await claims.settle([ask("e")], verdict)
    key, record = await stage.the_one()
    change = bytes(a ^ b for a, b in zip(ask("e").digest[:8], ask("e", "other").digest[:8], strict=True))
    forged = bytes(a ^ b for a, b in zip(record[1:9], change, strict=True))
    await stage.client.set(key, record[:1] + forged + record[9:])
    assert await claims.look([ask("e", "other")]) == [False]
    assert await claims.claim([ask("e", "other")], take_over=UNHANDLED) == [Won(1, 0)]
    assert claims.forged == 1
    await stage.client.set(key, record)
    answer = {"done": Done(False), "dead": Dead(False)}[verdict]
    assert await claims.claim([ask("e", "other")], take_over=UNHANDLED) == [answer]


async def test_a_record_of_another_event_group_or_store_proves_nothing(stage: Stage):
    claims = stage.listener()
    await claimed(claims, "other")
    await claims.settle([ask("other")], "done")
    others = {(await stage.the_one())[1]}
    for elsewhere in (stage.listener(group="h"), stage.listener(store="s2"), stage.listener(OTHER)):
        before = {*await stage.records()}
        await claimed(elsewhere, "e")
        await elsewhere.settle([ask("e")], "done")
        others |= {record for key, record in (await stage.records()).items() if key not in before}
    before = {*await stage.records()}
    await claimed(claims, "e")
    (key,) = {*await stage.records()} - before
    assert len(others) == 4
    for record in others:
        await stage.client.set(key, record)
        assert await claimed(claims, "e") == [Won(1, 0)]
    assert claims.forged == len(others)


async def test_a_forged_lease_may_condemn_an_event_or_end_the_use_of_redis(stage: Stage):
    """Leases carry no proof: SECURITY.md says so. Neither is silent: one ends as a letter, the other as an outage."""
    claims = stage.listener()
    await claimed(claims, "e")
    key, lease = await stage.the_one()

    async def forge(epoch: int, alone: int) -> None:
        await stage.client.set(key, lease[:9] + struct.pack(">QIIHHH", 0, 1, epoch, alone, alone, 1) + b"nobody")

    await forge(1, 3)
    assert await claimed(claims, "e", take_over=1) == [Won(2, 4, 4)]
    await forge(2**31 - 1, 0)
    with pytest.raises(Transient):
        await claimed(claims, "e", take_over=1)


async def test_a_server_that_forges_again_and_again_is_done_without():
    settled = struct.pack(">BIII", 4, 0, 1, 0) + b"x" * 16
    forged = b"$%d\r\n%b\r\n" % (len(settled), settled)
    deleted, place = b"$0\r\n\r\n", b"$19\r\n0123abcd.m01 0.0000\r\n"
    answers = [forged, deleted, forged, place, b"-ERR This instance has cluster support disabled\r\n"]
    async with answering(lambda _: answers.pop()) as url:
        claims = RedisClaims(
            redis_servers(url, timeout=10.0), token="a", group="g", lease_seconds=30, window_seconds=60, secret=SECRET
        )
        await claims.place()
        with pytest.raises(Transient, match="settled records that no listener wrote"):
            await claims.claim([ask("e")], take_over=UNHANDLED)
        assert claims.forged == 2
        await claims.close()


async def test_listeners_with_other_secrets_are_in_other_places(stage: Stage):
    """The claims rule then keeps their claims in PostgreSQL too: this is how a secret is replaced."""
    places = [await stage.listener(secret).place() for secret in ("", SECRET, OTHER, SECRET)]
    assert len({*places}) == 3
    assert places[1] == places[3]
    assert "#" not in places[0]
    assert SECRET not in places[1]


async def test_nothing_in_redis_can_be_computed_without_the_secret(stage: Stage):
    claims = stage.listener()
    await claimed(claims, "e")
    await claims.settle([ask("e")], "done")
    key, record = await stage.the_one()
    (plain,) = names_for("", b"g").of(["e"])
    assert plain not in key
    assert ask("e").digest[:8] not in record


async def test_without_a_secret_records_are_as_before(stage: Stage):
    claims = stage.listener("")
    await claimed(claims, "e")
    await claims.settle([ask("e")], "done")
    key, record = await stage.the_one()
    assert key == b"{g.0}s1:" + hashlib.blake2b(b"e", digest_size=16).digest()
    assert record == b"D" + ask("e").digest[:8]
