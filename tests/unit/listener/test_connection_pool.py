"""How many connections are opened and when, without a server: none unless a caller waits for it."""

import asyncio

import pytest

from tests.support.fakes import as_a
from unlost.listener.fast.connection import OwnConnection
from unlost.listener.fast.pool import ConnectionPool
from unlost.listener.store.postgres.connections import PoolLimits


class Connection:
    """As much of a connection as the pool uses."""

    is_clean = True
    generation, free_since = -1, 0.0

    def __init__(self) -> None:
        self._closed = False

    def is_closed(self) -> bool:
        return self._closed

    def terminate(self) -> None:
        self._closed = True


class Server:
    """Accepts as many as it ``takes``, and counts connections."""

    def __init__(self, *, takes: bool = True) -> None:
        self.takes = takes
        self.came = 0

    async def connect(self) -> OwnConnection:
        self.came += 1
        if not self.takes:
            raise ConnectionRefusedError("down")
        return as_a(OwnConnection, Connection())

    def pool(self, *, max_size: int = 3, min_size: int = 0) -> ConnectionPool:
        return ConnectionPool(self.connect, PoolLimits(max_size, min_size, 5.0, 1.0))


async def affinity() -> None:
    """Run everything ready in the loop, and what follows from it."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_server_that_is_down_is_asked_once_for_each_that_waits():
    server = Server(takes=False)
    pool = server.pool()
    for asked in (1, 2):
        with pytest.raises(ConnectionRefusedError):
            await pool.acquire()
        await affinity()
        assert server.came == asked


async def test_where_nobody_waits_nothing_is_opened_in_place_of_what_went_away():
    server = Server()
    pool = server.pool()
    held = await pool.acquire()
    await pool.expire()
    await pool.release(held)
    await affinity()
    assert held.is_closed()
    assert server.came == 1


async def test_a_waiter_gets_a_new_connection_in_place_of_an_expired_one():
    server = Server()
    pool = server.pool(max_size=1)
    held = await pool.acquire()
    waiting = asyncio.create_task(pool.acquire())
    await affinity()
    assert server.came == 1, "no more connections are allowed"
    await pool.expire()
    await pool.release(held)
    assert await waiting is not held
    assert server.came == 2


async def test_a_few_are_opened_with_the_first_but_no_more_than_are_allowed():
    server = Server()
    pool = server.pool(max_size=2, min_size=3)
    await pool.acquire()
    await affinity()
    assert server.came == 2


async def test_a_closed_connection_is_not_acquired():
    server = Server()
    pool = server.pool()
    first = await pool.acquire()
    assert pool.release_if_clean(first)
    first.terminate()
    assert await pool.acquire() is not first


async def test_the_connection_that_was_released_last_is_acquired_first():
    pool = Server().pool()
    one, other = await pool.acquire(), await pool.acquire()
    await pool.release(one)
    await pool.release(other)
    assert [await pool.acquire(), await pool.acquire()] == [other, one]


async def test_a_connection_from_before_a_failure_is_not_used_again():
    pool = Server().pool()
    before = await pool.acquire()
    assert pool.may_use(before)
    await pool.expire()
    assert not pool.may_use(before)
    after = await pool.acquire()
    assert pool.may_use(after)
    after.terminate()
    assert not pool.may_use(after)
