"""What the desk promises across places, asked of a real Redis and a real PostgreSQL."""

import asyncio
import hashlib

from listener.breaker import Breaker
from listener.claims.desk import Desk
from listener.claims.port import Ask, Dead, Keep, Lapsed, Won
from listener.claims.postgres import PostgresClaims
from listener.claims.redis import RedisClaims, connect_redis
from listener.store.database import Database
from listener.store.migrations import migrate
from listener.store.roll import Roll

SHORT, LEASE, WINDOW = 0.2, 30.0, 600.0
ASK = Ask("e", hashlib.sha256(b"content").digest())


def breaker(name: str) -> Breaker:
    return Breaker(name, fail_max=2, reset_seconds=1.0, facts=lambda _: None)


async def test_what_was_buried_while_redis_was_away_is_not_taken_over(redis_url: str, database_url: str) -> None:
    database = Database(database_url)
    await migrate(database)

    def redis(token: str, lease: float) -> RedisClaims:
        return RedisClaims(
            connect_redis(redis_url), token=token, group="g", lease_seconds=lease, window_seconds=WINDOW, shards=1
        )

    def postgres(token: str) -> PostgresClaims:
        return PostgresClaims(database, token=token, group="g", lease_seconds=LEASE, window_seconds=WINDOW)

    owner, heir, third = redis("owner", SHORT), redis("heir", LEASE), redis("third", LEASE)
    for claims in (owner, heir, third):
        await claims.place()
    desk = Desk(
        roll=Roll(database, group="g", token="heir", instance_id="heir"), postgres=postgres("heir"), redis=heir,
        redis_breaker=breaker("redis"), store_breaker=breaker("postgres"), lease_seconds=LEASE, facts=lambda _: None,
    )  # fmt: skip
    await desk.join()
    assert not desk.degraded
    assert await owner.claim([ASK], take_over=False) == [Won(1, 0)]
    buried = postgres("owner")
    await buried.cover([Keep(ASK.event_id, ASK.digest)])
    await buried.settle([ASK], "dead")  # Redis is out of the owner's reach, and never learns it
    # the lease ends by Redis' clock, and nothing tells
    while not isinstance((await third.claim([ASK], take_over=False))[0], Lapsed):  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    assert await desk.claim([ASK], take_over=True) == [Dead(same=True)]
    assert await third.claim([ASK], take_over=True) == [Dead(same=True)], "now Redis knows it too"
    for claims in (owner, heir, third):
        await claims.close()
    await database.close()
