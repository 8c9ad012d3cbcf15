"""A drill sets Redis' clock back, as far as its records show."""

from hashlib import sha256

from unlost.listener.claims.redis.adapter import RedisClaims
from unlost.listener.claims.redis.servers import redis_servers
from unlost.listener.core.claim import ClaimRequest, Held
from unlost.listener.core.store_mark import StoreMark
from unlost.ops.faults.drills.clocks import turn_back


async def test_every_lease_ends_later_and_nothing_else_is_touched(redis_url: str) -> None:
    one, two = (
        RedisClaims(redis_servers(redis_url), token=name, group="g", lease_seconds=30, window_seconds=60)
        for name in ("one", "two")
    )
    request = ClaimRequest("e", sha256(b"e").digest())
    await one.remember(StoreMark("g", 1, "i"))
    await one.claim([request], take_over=0)
    await one.settle([ClaimRequest("done", request.digest)], "done")
    assert await turn_back(redis_url, 3_600) == 1
    answer = (await two.claim([request], take_over=0))[0]
    assert isinstance(answer, Held)
    assert answer.seconds_left <= 30, "a lease that ends too late counts from now"
    await one.close()
    await two.close()
