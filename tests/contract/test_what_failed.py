"""Each error about an unreachable server says first what was being done, because a reader sees nothing else."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from tests.support.one_redis import OneRedis
from unlost.listener.claims.postgres.adapter import PostgresClaims
from unlost.listener.claims.redis.adapter import RedisClaims
from unlost.listener.core.claim import ClaimRequest, HeldClaim
from unlost.listener.core.errors import Permanent, Transient
from unlost.listener.core.event import parse
from unlost.listener.core.store_mark import StoreMark
from unlost.listener.ports.dead_letters import Burial
from unlost.listener.ports.rows import NewRow
from unlost.listener.store.postgres.burials import PostgresLetterRegister
from unlost.listener.store.postgres.cursors import PostgresCursors
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.membership import PostgresMembership
from unlost.listener.store.postgres.migrations import check, migrate
from unlost.listener.store.postgres.rows import PostgresRows
from unlost.ops.system.ports import free_port

EVENT = parse(b'{"event_id":"e","payload":1}', max_bytes=1000)
ROW, REQUEST, HELD = NewRow(EVENT, 1, 1, 0.0), ClaimRequest("e", EVENT.digest), HeldClaim("e", EVENT.digest)

Call = Callable[[Database], Awaitable[object]]


def claims(database: Database) -> PostgresClaims:
    return PostgresClaims(database, token="a:1", lease_seconds=30, window_seconds=600)


def claims_of_known_table(database: Database) -> PostgresClaims:
    database.claims_place = "postgres:1"
    return claims(database)


def store(database: Database) -> PostgresRows:
    return PostgresRows(database, instance_id="a", token="a:1")


def membership(database: Database) -> PostgresMembership:
    return PostgresMembership(database, token="a:1", instance_id="a")


async def nothing(_: object) -> None:
    """The work of a handler."""


async def pruned(database: Database) -> None:
    async for _ in store(database).prune(60.0):
        pass


BY_DOING: dict[str, Call] = {
    "storing events": lambda it: store(it).insert([ROW]),
    "storing an event with its handler": lambda it: store(it).insert_with(ROW, nothing),
    "probing whether rows are taken": lambda it: store(it).probe(),
    "looking for settled events": lambda it: store(it).settled([REQUEST]),
    "comparing an event with its row": lambda it: store(it).same_content(EVENT),
    "reading a page of events": lambda it: store(it).page(None, 10),
    "reading an event": lambda it: store(it).one("e"),
    "deleting old events": pruned,
    "registering dead letters": lambda it: PostgresLetterRegister(it, token="a:1").enter([Burial("e", b"", "l")]),
    "recording where the group starts": lambda it: PostgresCursors(it).start("s", "g", "j.1"),
    "reading the cursor": lambda it: PostgresCursors(it).read("s", "g"),
    "moving the cursor": lambda it: PostgresCursors(it).advance("s", "g", "j.1"),
    "resetting the cursor": lambda it: PostgresCursors(it).reset("s", "g", "j.1", "j.0"),
    "refreshing the membership": lambda it: membership(it).refresh(StoreMark("g", 1, "postgres:1")),
    "declaring the places of claims": lambda it: membership(it).declare(frozenset({"postgres:1"})),
    "replacing the store's generation": lambda it: membership(it).renew("g", 1),
    "leaving the group": lambda it: membership(it).leave(),
    "asking which claims table this is": lambda it: claims(it).place(),
    "claiming events": lambda it: claims_of_known_table(it).claim([REQUEST], take_over=0),
    "replicating claims": lambda it: claims_of_known_table(it).replicate([HELD]),
    "renewing claims": lambda it: claims_of_known_table(it).renew([HELD]),
    "settling events": lambda it: claims_of_known_table(it).settle([REQUEST], "done"),
    "releasing claims": lambda it: claims_of_known_table(it).release(["e"]),
    "forgetting old claims": lambda it: claims_of_known_table(it).prune(),
}  # fmt: skip


@contextlib.asynccontextmanager
async def unreachable() -> AsyncIterator[Database]:
    database = Database(f"postgresql://u:sesame@127.0.0.1:{free_port()}/d", timeout=5.0)
    yield database
    await database.close()


def assert_says(error: Transient, doing: str) -> None:
    before, _, why = str(error).partition(": ")
    assert before == doing
    assert "refused" in why.lower() or "connect" in why.lower()
    assert "sesame" not in str(error)


@pytest.mark.parametrize("doing", BY_DOING)
async def test_an_error_of_postgres_says_what_was_being_done(doing: str):
    async with unreachable() as database:
        with pytest.raises(Transient) as failed:
            await BY_DOING[doing](database)
    assert_says(failed.value, doing)


async def test_a_letter_entered_in_postgres_says_the_same_as_a_row():
    async with unreachable() as database:
        with pytest.raises(Transient) as failed:
            await claims_of_known_table(database).settle([REQUEST], "dead")
    assert_says(failed.value, "settling events")


@pytest.mark.parametrize("start", [migrate, check])
async def test_at_start_it_is_said_where_postgres_is_expected(start: Call):
    async with unreachable() as database:
        with pytest.raises(Transient) as failed:
            await start(database)
    assert str(failed.value).startswith("connecting to PostgreSQL at 127.0.0.1:")
    assert "/d: " in str(failed.value)
    assert "sesame" not in str(failed.value)


OF_REDIS: dict[str, Callable[[RedisClaims], Awaitable[object]]] = {
    "asking which Redis this is": lambda it: it.place(),
    "remembering how far the store has come": lambda it: it.remember(StoreMark("g", 1, "i")),
    "claiming events": lambda it: it.claim([REQUEST], take_over=0),
    "looking for events": lambda it: it.look([REQUEST]),
    "replicating claims": lambda it: it.replicate([HELD]),
    "renewing claims": lambda it: it.renew([HELD]),
    "settling events": lambda it: it.settle([REQUEST], "done"),
    "releasing claims": lambda it: it.release(["e"]),
}  # fmt: skip


@pytest.mark.parametrize("doing", OF_REDIS)
async def test_an_error_of_redis_says_what_was_being_done(redis_url: str, doing: str):
    servers = OneRedis(redis_url)
    redis = RedisClaims(servers, token="a:1", group="g", lease_seconds=30, window_seconds=600)
    await redis.place()  # otherwise each call would ask for the place first
    pool = servers.client.connection_pool
    pool.connection_kwargs.update(port=free_port(), username="u", password="sesame")
    await pool.disconnect()
    pool.reset()  # a new connection goes to the new address
    with pytest.raises(Transient) as failed:
        await OF_REDIS[doing](redis)
    await redis.close()
    assert_says(failed.value, doing)


async def test_a_refusal_by_postgres_says_what_was_being_done_and_why(database_url: str):
    database = Database(database_url, timeout=5.0)
    with pytest.raises(Permanent, match=r"^counting sheep: the data is refused: division by zero \(SQLSTATE 22012\)$"):
        async with database.acquire("counting sheep") as connection:
            await connection.execute("select 1 / 0")
    with pytest.raises(Transient, match=r"^counting sheep: connection was closed"):
        async with database.acquire("counting sheep") as connection:
            await connection.execute("select pg_terminate_backend(pg_backend_pid())")
    await database.close()


async def test_a_connection_is_waited_for_no_longer_than_a_statement(database_url: str):
    database = Database(database_url, timeout=0.2, connections=1)
    async with database.acquire("having it"):
        with pytest.raises(Transient, match=r"^wanting it: PostgreSQL did not answer in time"):
            async with asyncio.timeout(10), database.acquire("wanting it"):
                pytest.fail("there is one connection alone")
    await database.close()


async def test_a_statement_ends_in_time(database_url: str):
    database = Database(database_url, timeout=0.2)
    with pytest.raises(Transient, match=r"^sleeping: PostgreSQL did not answer in time"):
        async with asyncio.timeout(10), database.acquire("sleeping") as connection:
            await connection.execute("select pg_sleep(60)")
    await database.close()
