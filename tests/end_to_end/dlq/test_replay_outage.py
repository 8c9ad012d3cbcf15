"""A replay while PostgreSQL or Redis is away: it ends by itself, and no letter counts as failed."""

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from tests.support.listeners import rows_of, running_listener
from tests.support.source import running_source
from unlost.dlq.record.sidecar import states
from unlost.dlq.record.trail import trail_beside
from unlost.dlq.replay.plan import LOCKED
from unlost.listener.core.delivery import Delivery
from unlost.listener.core.facts import EventBuried, EventsStored
from unlost.listener.store.postgres.connections import Connection
from unlost.listener.store.postgres.taken_letters import LEASE_SECONDS
from unlost.ops.system.postgres import PostgresServer
from unlost.ops.system.valkey import ValkeyServer

QUICK, HELD = 5, 10
QUICKLY = 9.0
"""Seconds: 2 of patience, then 1 for each of its two databases to be found away, and margin for a busy machine."""
PROGRAM = """
from functools import partial
from unlost.dlq.commands.replay import replay_command
from unlost.listener.app.replay_engine import EngineRerun
from unlost.listener.app.shadow_engine import open_shadow
replay_command(partial(EngineRerun, patience=2.0), open_shadow)()
"""
DIRECTORY = "REPLAY_OUTAGE_DIRECTORY"
Outage = Callable[[], Awaitable[None]]


async def until(holds: Callable[[], bool]) -> None:
    """Wait for another process, by its files."""
    for _ in range(2_000):
        if holds():
            return
        await asyncio.sleep(0.02)
    raise TimeoutError


async def fail(event: Delivery) -> None:
    if not event.event_id.startswith("fine"):
        raise ValueError("no such order")


async def hold(event: Delivery) -> None:
    """Events with the payload ``held`` wait until the test releases them."""
    if event.payload == "held":
        directory = Path(os.environ[DIRECTORY])
        (directory / f"begun-{event.event_id}").touch()
        await until(lambda: (directory / "go").exists())


async def hold_in_transaction(event: Delivery, connection: Connection) -> None:
    await connection.execute("select 1")
    await hold(event)


@pytest.fixture
def servers(own_postgres: PostgresServer, own_valkey: ValkeyServer, tmp_path: Path) -> dict:
    return {
        "redis_url": own_valkey.url, "database_url": own_postgres.create_database("outage"), "directory": tmp_path,
    }  # fmt: skip


async def bury_all(servers: dict) -> None:
    quick = [(f"quick{number}", "quick") for number in range(QUICK)]
    held = [(f"held{number}", "held") for number in range(HELD)]
    frames = [json.dumps({"event_id": event_id, "payload": payload}) for event_id, payload in quick + held]
    async with (
        running_source() as source,
        running_listener(ws_url=source.url, **servers, handler=f"{__name__}:fail", handle_delay="0.01") as one,
    ):
        await source.wait_for_clients(1)
        for first in range(0, len(frames), 4):  # where more failed alike and none succeeded, the route would pause
            await source.send(*frames[first : first + 4])
            await one.heard.until(lambda heard: len(heard.of(EventBuried)) == len(frames[: first + 4]))  # noqa: B023
            fine = f"fine{first}"
            await source.send(json.dumps({"event_id": fine, "payload": None}))
            await one.heard.until(lambda heard: fine in heard.ids(EventsStored))  # noqa: B023


async def replayed(servers: dict) -> int:
    """How many events of letters are rows."""
    return sum(not row["event_id"].startswith("fine") for row in await rows_of(servers["database_url"]))


async def start_replay(servers: dict, handler: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROGRAM, servers["directory"] / "a.jsonl", "--json", "--other-handler",
        "--handler", f"{__name__}:{handler}", "--redis-url", servers["redis_url"],
        "--database-url", servers["database_url"], "--database-timeout", "1", "--lease", "3",
        "--handle-attempts", "1", "--insert-attempts", "1",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env=os.environ | {DIRECTORY: str(servers["directory"])},
    )  # fmt: skip


async def end_of(process: asyncio.subprocess.Process) -> tuple[int | None, dict, str]:
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert out, err.decode()
    return process.returncode, json.loads(out)["report"], err.decode()


async def leases(servers: dict) -> dict[str, float]:
    """Return for how many seconds each letter is still held for a replay."""
    query = (
        "select letter_id, extract(epoch from until - clock_timestamp())::float8 from unlost.letter_leases "
        "where until > clock_timestamp()"
    )
    connection = await asyncpg.connect(servers["database_url"])
    try:
        return {str(name): value for name, value in await connection.fetch(query)}
    finally:
        await connection.close()


async def until_held_at_work(servers: dict) -> None:
    """The quick letters are over and their leases given back, and the handlers of all others are running."""
    await until(lambda: len(list(servers["directory"].glob("begun-*"))) == HELD)
    for _ in range(400):
        known = states(servers["directory"] / "a.jsonl").values()
        if [state.status for state in known] == ["resolved"] * QUICK and len(await leases(servers)) == HELD:
            return
        await asyncio.sleep(0.05)
    pytest.fail("not all that is quick became a row")


async def let_lapse(servers: dict) -> None:
    """Let the leases of a replay end that is no more: their time is over sooner than by itself."""
    connection = await asyncpg.connect(servers["database_url"])
    try:
        await connection.execute("update unlost.letter_leases set until = clock_timestamp()")
    finally:
        await connection.close()


@asynccontextmanager
async def stopped(servers: dict, postgres: PostgresServer) -> AsyncIterator[None]:
    postgres.stop()
    yield
    postgres.start()


@asynccontextmanager
async def frozen(servers: dict, postgres: PostgresServer) -> AsyncIterator[None]:
    postgres.freeze()
    yield
    postgres.thaw()


@asynccontextmanager
async def locked(servers: dict, postgres: PostgresServer) -> AsyncIterator[None]:
    connection = await asyncpg.connect(servers["database_url"])
    await connection.execute("BEGIN; LOCK TABLE unlost.events")
    yield
    await connection.close()


@pytest.mark.timeout(180)  # three replays; while PostgreSQL is frozen, the first waits for it three times
@pytest.mark.parametrize(
    ("outage", "handler"),
    [(stopped, "hold"), (stopped, "hold_in_transaction"), (frozen, "hold"), (locked, "hold")],
)
async def test_an_outage_of_postgresql_ends_a_replay_and_leaves_its_letters(
    servers: dict, own_postgres: PostgresServer, outage: Callable, handler: str
):
    await bury_all(servers)
    process = await start_replay(servers, handler)
    await until_held_at_work(servers)
    async with outage(servers, own_postgres):
        (servers["directory"] / "go").touch()
        began = time.monotonic()
        code, report, err = await end_of(process)
        took = time.monotonic() - began
    assert (code, report["stored"], report["failed"]) == (1, QUICK, 0)
    assert took < QUICKLY, "once it has given up, it waits no longer for PostgreSQL"
    assert report["error"].startswith("PostgreSQL ")
    assert err.count("error: ") == 1, err
    assert "run the replay again" in err
    known = states(servers["directory"] / "a.jsonl").values()
    assert [state.status for state in known] == ["resolved"] * QUICK, "events in progress are unchanged"
    still_leased = await leases(servers)
    if outage is locked:
        assert still_leased == {}, "only the events were locked, so the letters were freed"
    else:
        assert len(still_leased) == HELD, "PostgreSQL was away, so they could not be freed"
        assert trail_beside(servers["directory"] / "a.jsonl").exists(), "PostgreSQL was not asked for its trail"
        assert max(still_leased.values()) <= LEASE_SECONDS
        code, report, _ = await end_of(await start_replay(servers, handler))
        assert (code, report["resolved"], report["failed"], report["elsewhere"]) == (LOCKED, 0, 0, HELD)
        await let_lapse(servers)
    code, report, _ = await end_of(await start_replay(servers, handler))
    assert (code, report["resolved"], report["failed"]) == (0, HELD, 0)
    assert await leases(servers) == {}
    assert await replayed(servers) == QUICK + HELD


async def test_a_replay_outlasts_an_outage_that_is_shorter_than_its_patience(
    servers: dict, own_postgres: PostgresServer
):
    await bury_all(servers)
    process = await start_replay(servers, "hold")
    await until_held_at_work(servers)
    own_postgres.stop()
    (servers["directory"] / "go").touch()
    await asyncio.sleep(0.5)
    own_postgres.start()
    code, report, _ = await end_of(process)
    assert (code, report["stored"], report["failed"]) == (0, QUICK + HELD, 0)


async def test_a_replay_goes_on_without_redis(servers: dict, own_valkey: ValkeyServer):
    await bury_all(servers)
    process = await start_replay(servers, "hold")
    await until_held_at_work(servers)
    own_valkey.stop()
    (servers["directory"] / "go").touch()
    code, report, _ = await end_of(process)
    assert (code, report["resolved"], report["failed"]) == (0, QUICK + HELD, 0), "claims move to PostgreSQL"
