"""Speed and size. The floors are far below what one machine achieves; ``-s`` prints the figures."""

import hashlib
import time
from collections.abc import Awaitable, Callable

import pytest

from unlost.listener.claims.postgres.adapter import PostgresClaims
from unlost.listener.claims.redis.adapter import RedisClaims
from unlost.listener.claims.redis.client import connect_redis
from unlost.listener.claims.redis.servers import redis_servers
from unlost.listener.core.claim import ClaimRequest
from unlost.listener.core.event import parse
from unlost.listener.ports.claims import Claims
from unlost.listener.ports.rows import NewRow
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.migrations import migrate
from unlost.listener.store.postgres.rows import PostgresRows

pytestmark = pytest.mark.database("migrated")

BATCH = 1_024
BYTES_PER_SETTLED_EVENT = 120


def batches(count: int) -> list[list[ClaimRequest]]:
    requests = [ClaimRequest(f"event-{i:08}", hashlib.sha256(b"%d" % i).digest()) for i in range(count)]
    return [requests[i : i + BATCH] for i in range(0, count, BATCH)]


async def rate(
    name: str, todo: list[list[ClaimRequest]], call: Callable[[list[ClaimRequest]], Awaitable[object]]
) -> float:
    started = time.perf_counter()
    for batch in todo:
        await call(batch)
    per_second = sum(map(len, todo)) / (time.perf_counter() - started)
    print(f"{name}: {per_second:,.0f}/s")
    return per_second


async def test_redis_claims(own_valkey) -> None:
    client = connect_redis(own_valkey.url)
    claims: Claims = RedisClaims(
        redis_servers(own_valkey.url), token="host:0123456789abcdef", group="default", lease_seconds=30,
        window_seconds=600_000,
    )  # fmt: skip
    await claims.place()
    before = (await client.info("memory"))["used_memory"]
    todo = batches(100_000)
    assert await rate("redis claim", todo, lambda batch: claims.claim(batch, take_over=False)) > 10_000
    assert await rate("redis settle", todo, lambda batch: claims.settle(batch, "done")) > 10_000
    each = ((await client.info("memory"))["used_memory"] - before) / 100_000
    print(f"redis memory for each settled event: {each:.1f} bytes")
    assert each <= BYTES_PER_SETTLED_EVENT
    await claims.close()
    await client.aclose()


async def test_postgres_claims(database_url: str) -> None:
    database = Database(database_url)
    await migrate(database)
    claims = PostgresClaims(database, token="a", lease_seconds=30, window_seconds=600)
    todo = batches(20_000)
    assert await rate("postgres claim", todo, lambda batch: claims.claim(batch, take_over=False)) > 1_000
    assert await rate("postgres settle", todo, lambda batch: claims.settle(batch, "done")) > 1_000
    await database.close()


async def test_inserts(database_url: str) -> None:
    database = Database(database_url)
    await migrate(database)
    store = PostgresRows(database, instance_id="a", token="a")
    todo = batches(50_000)
    events = {
        request.event_id: NewRow(
            parse(f'{{"event_id":"{request.event_id}","payload":{{"n":1,"user":"someone"}}}}', max_bytes=1000),
            1,
            1,
            1.0,
        )
        for batch in todo
        for request in batch
    }
    assert (
        await rate("insert", todo, lambda batch: store.insert([events[request.event_id] for request in batch])) > 3_000
    )
    assert (
        await rate("insert again", todo, lambda batch: store.insert([events[request.event_id] for request in batch]))
        > 3_000
    )
    await database.close()
