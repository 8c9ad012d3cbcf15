"""The promises of a call to Redis, on real connections: it has a time limit, and answers are never mixed up."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError, ResponseError  # noqa: A004  the library's name

from tests.support.wrong_redis import answering
from unlost.listener.claims.redis.calls import FEW, RedisCalls
from unlost.listener.claims.redis.client import connect_redis

LIMIT = 0.4


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Redis]:
    client = connect_redis(redis_url, timeout=LIMIT, connections=1)
    yield client
    await client.aclose()


@pytest.fixture
def calls(client: Redis) -> RedisCalls:
    return RedisCalls(client, timeout=LIMIT)


def _as_it_came(reply: object) -> object:
    return reply


async def connection_of(calls: RedisCalls) -> object:
    """The server's number of the connection that is used next."""
    return await calls.ask(_as_it_came, "CLIENT", "ID")


async def seconds(asking: Awaitable[object]) -> float:
    """How long it took to learn that no answer came."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    with pytest.raises(TimeoutError):
        await asking
    return loop.time() - started


async def until(reached: object, asking: Callable[[], Awaitable[object]]) -> None:
    async with asyncio.timeout(10):
        while await asking() != reached:  # noqa: ASYNC110  nothing announces it
            await asyncio.sleep(0.001)


async def test_a_call_without_answer_ends_in_time_and_takes_its_connection_along(calls: RedisCalls) -> None:
    before = await connection_of(calls)
    assert await seconds(calls.ask(_as_it_came, "BLPOP", "never", "0")) >= LIMIT - 0.01
    assert await connection_of(calls) != before


async def test_the_limit_counts_from_each_calls_own_beginning(calls: RedisCalls) -> None:
    for _ in range(3):
        assert await calls.ask(_as_it_came, "BLPOP", "never", str(LIMIT * 0.6)) is None
    assert await seconds(calls.ask(_as_it_came, "BLPOP", "never", "0")) >= LIMIT - 0.01


async def test_waiting_for_a_connection_counts_too(redis_url: str, client: Redis, calls: RedisCalls) -> None:
    key = uuid.uuid4().hex
    before = await connection_of(calls)
    using_the_only_one = asyncio.create_task(RedisCalls(client, timeout=10).ask(_as_it_came, "BLPOP", key, "0"))
    await asyncio.sleep(0)  # now it waits for its answer
    assert await seconds(calls.ask(_as_it_came, "PING")) >= LIMIT - 0.01
    waiting = [asyncio.create_task(calls.ask(_as_it_came, "ECHO", str(number))) for number in range(3)]
    async with Redis.from_url(redis_url) as other:
        await other.rpush(key, "x")
    assert await using_the_only_one == [key.encode(), b"x"]
    assert await asyncio.gather(*waiting) == [b"0", b"1", b"2"]
    assert await connection_of(calls) == before


async def test_where_opening_fails_whoever_waits_tries_it_too() -> None:
    replies = {b"SELECT": [b"+OK\r\n", b"-ERR not yet\r\n"], b"PING": [b"+PONG\r\n"]}
    async with answering(lambda request: replies[request.split(b"\r\n")[2]].pop()) as url:
        client = connect_redis(url.removesuffix("/0") + "/3", connections=1)
        calls = RedisCalls(client, timeout=5.0)
        first, second = (asyncio.create_task(calls.ask(_as_it_came, "PING")) for _ in range(2))
        with pytest.raises(ResponseError, match="not yet"):
            await first
        assert await second == b"PONG"
        await client.aclose()


async def test_a_cancelled_call_leaves_no_reply_to_the_next_one(calls: RedisCalls) -> None:
    before = await connection_of(calls)
    asking = asyncio.create_task(calls.ask(_as_it_came, "ECHO", "mine"))
    await asyncio.sleep(0)  # now the request is sent
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert await calls.ask(_as_it_came, "ECHO", "yours") == b"yours"
    assert await connection_of(calls) != before


async def test_an_answer_that_nobody_waits_for_ends_the_connection() -> None:
    replies = [b"+mine\r\n", b"+first\r\n+stray\r\n"]
    async with answering(lambda _: replies.pop()) as url:
        client = connect_redis(url, connections=1)
        calls = RedisCalls(client, timeout=LIMIT)
        assert await calls.ask(_as_it_came, "PING") == b"first"
        assert await calls.ask(_as_it_came, "PING") == b"mine"
        await client.aclose()


async def test_an_error_of_the_servers_costs_no_connection(calls: RedisCalls) -> None:
    before = await connection_of(calls)
    with pytest.raises(ResponseError, match="wrong number of arguments"):
        await calls.ask(_as_it_came, "GET")
    assert await connection_of(calls) == before


async def test_a_few_are_open_before_they_are_needed_and_end_together(redis_url: str) -> None:
    name = uuid.uuid4().hex
    client = connect_redis(f"{redis_url}?client_name={name}", connections=4)
    calls = RedisCalls(client, timeout=LIMIT)
    async with Redis.from_url(redis_url) as other:

        async def opened() -> set[str]:
            return {one["id"] for one in await other.client_list() if one["name"] == name}

        async def how_many() -> int:
            return len(await opened())

        await calls.open_ahead()
        few = await opened()
        assert len(few) == FEW
        await calls.open_ahead()
        assert await asyncio.gather(*(calls.ask(_as_it_came, "PING") for _ in range(FEW))) == [b"PONG"] * FEW
        assert await opened() == few
        assert await seconds(calls.ask(_as_it_came, "BLPOP", "never", "0")) >= LIMIT - 0.01
        await until(0, how_many)  # they ended with the failed one
        await calls.open_ahead()
        assert await how_many() == FEW
        assert not await opened() & few
        await client.aclose()


async def test_a_cancelled_call_says_nothing_about_the_others(redis_url: str) -> None:
    client = connect_redis(redis_url, connections=2)
    calls = RedisCalls(client, timeout=10)
    asking = asyncio.create_task(calls.ask(_as_it_came, "BLPOP", uuid.uuid4().hex, "0"))
    await asyncio.sleep(0)  # now it waits for its answer
    before = await connection_of(calls)
    asking.cancel()
    await asyncio.wait([asking])
    assert before in await asyncio.gather(connection_of(calls), connection_of(calls))
    await client.aclose()


async def test_a_connection_reset_in_the_middle_of_its_opening_is_an_error_like_others(
    client: Redis, calls: RedisCalls, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def reset() -> None:
        raise RuntimeError("unable to perform operation on <TCPTransport closed=True>; the handler is closed")

    monkeypatch.setattr(client.connection_pool, "get_connection", reset)
    with pytest.raises(ConnectionError, match="the handler is closed"):
        await calls.ask(_as_it_came, "PING")
