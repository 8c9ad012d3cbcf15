"""A listener while PostgreSQL is away, frozen, crashed, locked or waits for a standby: every event becomes its row."""

import asyncio
import uuid
from collections import Counter
from pathlib import Path

import asyncpg
import pytest

from tests.support.frail import Frail
from tests.support.handlers import HOLD, HOLD_IN_TRANSACTION, RUNS
from tests.support.law import assert_law, letters_in
from tests.support.listeners import Heard, RunningListener, running_listener, until_among
from tests.support.stream import ResumingSource, resuming_source
from unlost.listener.core.delivery import Delivery
from unlost.listener.core.facts import (
    AttemptFailed,
    BreakerChanged,
    EventBuried,
    EventsStandBy,
    EventsStored,
    PlacesDeclared,
    StoringPaused,
    StoringResumed,
)
from unlost.listener.store.postgres.connections import Connection
from unlost.ops.system.ports import free_port
from unlost.ops.system.postgres import PostgresServer

OUTAGE_SECONDS = 1.0
"""As long as all attempts together, and the time limit of one."""
HANGS_FOR_ONE = """
create function hang() returns trigger language plpgsql as $$
begin if new.event_id = 'bad' then perform pg_sleep(60); end if; return new; end $$;
create trigger hang before insert on unlost.events for each row execute function hang()
"""
UNUSABLE = {
    "locked": ("begin; lock table unlost.events", "rollback"),
    "missing": ("alter schema unlost rename to elsewhere", "alter schema elsewhere rename to unlost"),
}
"""How tables become unusable, and usable again. They are missing while a backup is restored into an empty database."""
CLOSES = f"{__name__}:close_connection"


async def close_connection(event: Delivery, connection: Connection) -> None:
    await connection.close()


@pytest.fixture
def servers(redis_url: str, frail_postgres: Frail[PostgresServer], tmp_path: Path) -> dict:
    RUNS.forget()
    database_url = frail_postgres.server.create_database(f"test_{uuid.uuid4().hex[:12]}")
    return {
        "redis_url": redis_url, "database_url": database_url, "directory": tmp_path, "handler": HOLD,
        "database_timeout": "1",
    }  # fmt: skip


async def create_effects(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    await connection.execute("create table effects (event_id text)")
    await connection.close()


async def effects(database_url: str) -> Counter[str]:
    connection = await asyncpg.connect(database_url)
    rows = await connection.fetch("select event_id from effects")
    await connection.close()
    return Counter(row["event_id"] for row in rows)


def ids(stem: str, count: int) -> list[str]:
    return [f"{stem}{number}" for number in range(count)]


def open_breaker(heard: Heard) -> bool:
    moves = [fact.state for fact in heard.of(BreakerChanged) if fact.name == "postgres"]
    return bool(moves) and moves[-1] == "open"


async def with_some_held(source: ResumingSource, one: RunningListener) -> None:
    """Ten events are stored, and five handlers are running."""
    await source.publish(*ids("before", 10), *ids("held", 5))
    await one.heard.until(lambda h: len(h.ids(EventsStored)) == 10 and len(RUNS.begun) == 15)


async def stored_or_buried(one: RunningListener, count: int) -> None:
    await one.heard.until(lambda h: len(h.ids(EventsStored)) + len(h.of(EventBuried)) == count)


@pytest.mark.parametrize("form", [HOLD, HOLD_IN_TRANSACTION])
async def test_away_for_longer_than_all_attempts_it_costs_no_letter(
    servers: dict, frail_postgres: Frail[PostgresServer], form: str
):
    await create_effects(servers["database_url"])
    few = {"insert_attempts": "1", "handle_attempts": "1", "handler": form}
    async with (
        resuming_source() as source,
        running_listener(ws_url=source.url, **servers | few) as one,
    ):
        await with_some_held(source, one)
        await frail_postgres.stop()
        await one.heard.until(open_breaker)
        await source.publish(*ids("during", 50))
        RUNS.go_on.set()
        await one.heard.until(lambda h: bool(h.of(StoringPaused)))
        assert not one.daemon.health().is_ready
        assert "takes no rows" in str(one.daemon.health().ready()["reasons"])
        await asyncio.sleep(2 * OUTAGE_SECONDS)
        assert not one.heard.of(StoringResumed)
        await frail_postgres.start()
        await source.publish(*ids("after", 10))
        await stored_or_buried(one, 75)
    assert letters_in(servers["directory"]) == []
    await assert_law(servers["database_url"], servers["directory"], source.event_ids)
    ran = Counter(RUNS.begun)
    assert set(ran) == set(source.event_ids)
    again = {event_id for event_id, times in ran.items() if times > 1}
    assert again == (set() if form == HOLD else set(ids("held", 5))), "only rolled back events run again"
    if form == HOLD_IN_TRANSACTION:
        assert await effects(servers["database_url"]) == Counter(source.event_ids)


@pytest.mark.parametrize("form", ["", HOLD, HOLD_IN_TRANSACTION])
@pytest.mark.parametrize("harm", UNUSABLE)
async def test_tables_that_are_locked_or_missing_for_a_while_cost_no_letter(servers: dict, form: str, harm: str):
    await create_effects(servers["database_url"])
    few = {"insert_attempts": "1", "handle_attempts": "1", "handler": form}
    do, undo = UNUSABLE[harm]
    async with (
        resuming_source() as source,
        running_listener(ws_url=source.url, **servers | few) as one,
    ):
        await source.publish(*ids("before", 10))
        await stored_or_buried(one, 10)
        admin = await asyncpg.connect(servers["database_url"])
        await admin.execute(do)
        await source.publish(*ids("during", 50))
        await one.heard.until(lambda h: harm == "missing" or bool(h.of(StoringPaused)))
        while one.daemon.health().is_ready:  # noqa: ASYNC110  no fact says so
            await asyncio.sleep(0.05)
        await asyncio.sleep(2 * OUTAGE_SECONDS)
        await admin.execute(undo)
        await admin.close()
        await stored_or_buried(one, 60)
        await source.publish(*ids("after", 10))
        await stored_or_buried(one, 70)
    assert letters_in(servers["directory"]) == []
    await assert_law(servers["database_url"], servers["directory"], source.event_ids)
    ran = Counter(RUNS.begun)
    assert set(ran) == (set(source.event_ids) if form else set())
    assert harm == "missing" or set(ran.values()) <= {1}, "a handler whose row only waits does not run again"
    if form == HOLD_IN_TRANSACTION:
        assert await effects(servers["database_url"]) == Counter(source.event_ids)


async def test_a_synchronous_standby_that_is_cut_off_costs_no_letter(
    servers: dict, frail_postgres: Frail[PostgresServer]
):
    few = {"insert_attempts": "1", "handle_attempts": "1", "handler": ""}
    admin = await asyncpg.connect(servers["database_url"])
    async with (
        resuming_source() as source,
        running_listener(ws_url=source.url, **servers | few) as one,
    ):
        await source.publish(*ids("before", 10))
        await stored_or_buried(one, 10)
        await admin.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
        await admin.execute("SELECT pg_reload_conf()")
        try:
            await asyncio.sleep(0.2)
            await source.publish(*ids("during", 10))
            await one.heard.until(lambda h: bool(h.of(StoringPaused)))
            await asyncio.sleep(2 * OUTAGE_SECONDS)
        finally:
            await admin.execute("ALTER SYSTEM RESET synchronous_standby_names")
            await admin.execute("SELECT pg_reload_conf()")
        await source.publish(*ids("after", 10))
        await stored_or_buried(one, 30)
    await admin.close()
    assert letters_in(servers["directory"]) == []
    await assert_law(servers["database_url"], servers["directory"], source.event_ids)


async def test_a_row_on_which_the_server_hangs_is_a_letter_and_all_others_are_rows(servers: dict):
    async with (
        resuming_source() as source,
        running_listener(ws_url=source.url, **servers | {"handler": "", "insert_attempts": "2"}) as one,
    ):
        await source.publish(*ids("before", 10))
        await stored_or_buried(one, 10)
        admin = await asyncpg.connect(servers["database_url"])
        await admin.execute(HANGS_FOR_ONE)
        await admin.close()
        await source.publish(*ids("good", 20), "bad", *ids("fine", 20))
        await stored_or_buried(one, 51)
    (letter,) = letters_in(servers["directory"])
    assert (letter.event_id, letter.reason, letter.stage) == ("bad", "exhausted", "store")
    assert len(letter.attempts) == 2
    await assert_law(servers["database_url"], servers["directory"], source.event_ids)


async def test_a_handler_that_closes_its_connection_is_at_fault_itself(servers: dict):
    few = {"handler": CLOSES, "handle_attempts": "2"}
    async with (
        resuming_source() as source,
        running_listener(ws_url=source.url, **servers | few) as one,
    ):
        await source.publish("e")
        await stored_or_buried(one, 1)
    (letter,) = letters_in(servers["directory"])
    assert (letter.event_id, letter.reason, len(letter.attempts)) == ("e", "exhausted", 2)


@pytest.mark.parametrize("harm", ["stopped", "frozen", "killed"])
async def test_away_for_less_than_all_attempts_it_costs_no_letter_and_no_second_run(
    servers: dict, frail_postgres: Frail[PostgresServer], harm: str
):
    do, undo = {
        "stopped": (frail_postgres.stop, frail_postgres.start),
        "frozen": (frail_postgres.freeze, frail_postgres.thaw),
        "killed": (frail_postgres.kill, frail_postgres.start),
    }[harm]
    async with (
        resuming_source() as source,
        running_listener(ws_url=source.url, **servers) as one,
    ):
        await with_some_held(source, one)
        await do()
        RUNS.go_on.set()
        await source.publish(*ids("during", 50))
        await one.heard.until(lambda h: open_breaker(h) and bool(h.of(StoringPaused)))
        await undo()
        await source.publish(*ids("after", 10))
        await stored_or_buried(one, 75)
    assert letters_in(servers["directory"]) == []
    await assert_law(servers["database_url"], servers["directory"], source.event_ids)
    assert sorted(RUNS.begun) == sorted(source.event_ids)


async def test_joining_the_group_is_tried_as_often_as_reaching_postgres(servers: dict):
    """On a busy machine the first statement may fail too, although PostgreSQL has just answered."""
    no_redis = {"redis_url": f"redis://127.0.0.1:{free_port()}/0", "startup_attempts": "1"}
    async with resuming_source() as source:
        async with running_listener(ws_url=source.url, **servers) as earlier:
            await earlier.heard.until(lambda h: bool(h.of(PlacesDeclared)))
        busy = await asyncpg.connect(servers["database_url"])
        await busy.execute("BEGIN; LOCK TABLE unlost.listeners")
        async with running_listener(ws_url=source.url, **servers | no_redis, instance_id="b") as one:
            await one.heard.until(lambda h: any("PostgreSQL" in fact.message for fact in h.of(AttemptFailed)))
            await busy.close()
            await one.heard.until(lambda h: bool(h.of(PlacesDeclared)))


async def test_killed_while_it_keeps_the_claims_it_forgets_them_and_nothing_runs_twice(
    servers: dict, frail_postgres: Frail[PostgresServer]
):
    no_redis = {"redis_url": f"redis://127.0.0.1:{free_port()}/0", "startup_attempts": "1"}
    same = {**servers, **no_redis, "lease": "10"}
    async with (
        resuming_source() as source,
        running_listener(ws_url=source.url, **same) as one,
        running_listener(ws_url=source.url, **same, instance_id="b") as two,
    ):
        both = (one, two)

        def stored() -> int:
            return sum(len(each.heard.ids(EventsStored)) for each in both)

        await source.publish(*ids("before", 10), *ids("held", 5))
        await until_among(both, lambda: stored() == 10 and len(RUNS.begun) == 15)
        await until_among(both, lambda: sum(len(set(each.heard.ids(EventsStandBy))) for each in both) >= 5)
        forgotten = {place for each in both for place in each.heard.of(PlacesDeclared)[-1].places}
        await frail_postgres.kill()
        await source.publish(*ids("during", 50))
        for each in both:
            await each.heard.until(open_breaker)
        await frail_postgres.start()
        for each in both:
            await each.heard.until(lambda h: not forgotten & set(h.of(PlacesDeclared)[-1].places))
        await until_among(both, lambda: stored() == 60)
        RUNS.go_on.set()
        await until_among(both, lambda: stored() == 65)
    await assert_law(servers["database_url"], servers["directory"], source.event_ids)
    assert sorted(RUNS.begun) == sorted(source.event_ids)
