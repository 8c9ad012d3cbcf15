"""The promises of a Redis connection, on a real server: each call has a time limit, and answers are never mixed up."""

import asyncio
from collections.abc import AsyncIterator, Awaitable

import pytest
from redis.exceptions import ConnectionError, ResponseError  # noqa: A004  the library's name

from unlost.listener.claims.redis.adapter import connect_redis
from unlost.listener.claims.redis.pool import FEW, RedisPool

LIMIT = 0.4


@pytest.fixture
async def wires(redis_url: str) -> AsyncIterator[RedisPool]:
    client = connect_redis(redis_url, connections=1)
    yield RedisPool(client, timeout=LIMIT)
    await client.aclose()


def _as_it_came(reply: object) -> object:
    return reply


async def seconds(asking: Awaitable[object]) -> float:
    """How long it took to learn that no answer came."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    with pytest.raises(TimeoutError):
        await asking
    return loop.time() - started


async def test_a_call_without_answer_ends_in_time_and_takes_its_connection_along(wires: RedisPool) -> None:
    assert await wires.ask(_as_it_came, "PING") == b"PONG"
    (wire,) = wires._free
    assert await seconds(wires.ask(_as_it_came, "BLPOP", "never", "0")) >= LIMIT - 0.01
    assert wires._free == []
    assert wire.transport.is_closing()
    assert await wires.ask(_as_it_came, "PING") == b"PONG"


async def test_the_limit_counts_from_each_calls_own_beginning(wires: RedisPool) -> None:
    for _ in range(3):  # the connection's single timer fires in the middle of the second call, and again later
        assert await wires.ask(_as_it_came, "BLPOP", "never", str(LIMIT * 0.6)) is None
    assert await seconds(wires.ask(_as_it_came, "BLPOP", "never", "0")) >= LIMIT - 0.01


async def test_waiting_for_a_connection_counts_too(wires: RedisPool) -> None:
    await wires.ask(_as_it_came, "PING")
    the_only_one = wires._free.pop()
    assert await seconds(wires.ask(_as_it_came, "PING")) >= LIMIT - 0.01
    waiting = [asyncio.create_task(wires.ask(_as_it_came, "ECHO", str(number))) for number in range(3)]
    await asyncio.sleep(0)  # now they wait
    wires._put_back(the_only_one)
    assert await asyncio.gather(*waiting) == [b"0", b"1", b"2"]
    assert wires._free == [the_only_one]


async def test_where_opening_fails_whoever_waits_tries_it_too(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    client = connect_redis(redis_url, connections=1)
    wires, opened = RedisPool(client, timeout=5.0), client.connection_pool.get_connection
    begun = asyncio.Event()

    async def refuse_once() -> object:
        monkeypatch.setattr(client.connection_pool, "get_connection", opened)
        begun.set()
        await asyncio.sleep(0)
        raise ConnectionError("refused")

    monkeypatch.setattr(client.connection_pool, "get_connection", refuse_once)
    first = asyncio.create_task(wires.ask(_as_it_came, "PING"))
    await begun.wait()
    assert await wires.ask(_as_it_came, "PING") == b"PONG"
    with pytest.raises(ConnectionError, match="refused"):
        await first
    await client.aclose()


async def test_who_gives_up_leaves_no_answer_to_whoever_comes_next(wires: RedisPool) -> None:
    await wires.ask(_as_it_came, "PING")
    asking = asyncio.create_task(wires.ask(_as_it_came, "ECHO", "mine"))
    await asyncio.sleep(0)  # now the request is sent
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert await wires.ask(_as_it_came, "ECHO", "yours") == b"yours"


async def test_an_answer_that_nobody_waits_for_ends_the_connection(wires: RedisPool) -> None:
    await wires.ask(_as_it_came, "PING")
    (wire,) = wires._free
    wire.transport.write(b"ECHO stray\r\n")
    async with asyncio.timeout(10):
        while not wire.transport.is_closing():  # noqa: ASYNC110  nothing announces it
            await asyncio.sleep(0.001)
    with pytest.raises(ConnectionError):
        await wires.ask(_as_it_came, "ECHO", "mine")
    assert await wires.ask(_as_it_came, "ECHO", "mine") == b"mine"


async def test_an_error_of_the_servers_costs_no_connection(wires: RedisPool) -> None:
    await wires.ask(_as_it_came, "PING")
    before = list(wires._free)
    with pytest.raises(ResponseError, match="wrong number of arguments"):
        await wires.ask(_as_it_came, "GET")
    assert wires._free == before


async def test_a_few_are_open_before_they_are_needed(redis_url: str) -> None:
    client = connect_redis(redis_url, connections=4)
    wires = RedisPool(client, timeout=LIMIT)
    await wires.open_ahead()
    await wires.open_ahead()
    few = list(wires._free)
    assert len(few) == FEW
    assert await asyncio.gather(*(wires.ask(_as_it_came, "PING") for _ in range(FEW))) == [b"PONG"] * FEW
    assert set(wires._free) == set(few)
    assert await seconds(wires.ask(_as_it_came, "BLPOP", "never", "0")) >= LIMIT - 0.01
    assert wires._free == [], "they ended with the failed one"
    await wires.open_ahead()
    assert len(wires._free) == FEW
    await client.aclose()


async def test_a_connection_reset_in_the_middle_of_its_opening_is_an_error_like_others(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = connect_redis(redis_url, connections=1)

    async def reset() -> None:
        raise RuntimeError("unable to perform operation on <TCPTransport closed=True>; the handler is closed")

    monkeypatch.setattr(client.connection_pool, "get_connection", reset)
    with pytest.raises(ConnectionError, match="the handler is closed"):
        await RedisPool(client, timeout=LIMIT).ask("PING")
    await client.aclose()
