"""Letters of four listeners with four disks: one is lost, PostgreSQL goes away while others ship, two places replay."""

import asyncio
import contextlib
import shutil
from collections import Counter
from pathlib import Path

import asyncpg
import pytest

from tests.end_to_end.faults.conftest import frame, frames, letters
from tests.support.handlers import NEEDS, RUNS
from tests.support.listeners import RunningListener, rows_of, running_listener
from tests.support.source import Source, running_source
from unlost.dlq.record.query import Selection
from unlost.dlq.replay.plan import ReplayLimits, ReplayReport
from unlost.dlq.replay.replaying import Replay
from unlost.listener.app.connection_settings import ConnectionSettings
from unlost.listener.app.replay_engine import EngineRerun
from unlost.listener.core.facts import EventBuried, EventsStored, SourceConnected
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.letter_store import TableLetters
from unlost.ops.system.postgres import PostgresServer

NAMES = "abcd"
EACH = 4
"""So few that fail do not make a route pause, and a success makes them be forgotten."""
MORE = 3


@pytest.fixture(autouse=True)
def _no_runs() -> None:
    RUNS.forget()


async def shipped(one: RunningListener, count: int) -> None:
    await one.heard.until(lambda h: len(h.of(EventBuried)) == count)
    async with asyncio.timeout(20):
        while one.health["letters"]["unshipped_bytes"]:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def replay(servers: dict, name: str, both: asyncio.Barrier) -> ReplayReport:
    """Replay the fleet's list from one place, once ``both`` are ready."""
    database = Database(servers["database_url"], timeout=2.0)
    given = {key: servers[key] for key in ("redis_url", "database_url")}
    settings = ConnectionSettings.load({**given, "handler": NEEDS, "instance_id": f"replay-{name}"})
    try:
        async with (
            EngineRerun(settings) as rerun,
            TableLetters(database).replaying(Selection(), 0, name) as taking,
        ):
            await both.wait()
            return await Replay(rerun, taking, ReplayLimits(concurrency=2), lambda _: None, by=name).run()
    finally:
        await database.close()


async def test_no_letter_of_a_fleet_is_lost_or_run_twice(
    own_postgres: PostgresServer, redis_url: str, tmp_path: Path
) -> None:
    servers = {"redis_url": redis_url, "database_url": own_postgres.url}
    fleet: dict[str, tuple[Source, RunningListener]] = {}
    async with contextlib.AsyncExitStack() as running:
        for name in NAMES:
            disk = tmp_path / name
            disk.mkdir()
            source = await running.enter_async_context(running_source())
            one = await running.enter_async_context(
                running_listener(
                    ws_url=source.url,
                    **servers,
                    directory=disk,
                    instance_id=name,
                    handler=NEEDS,
                    heal="off",
                    handle_attempts="1",
                    peer_wait="0",
                )
            )
            await one.heard.until(lambda h: bool(h.of(SourceConnected)))
            fleet[name] = source, one
        await asyncio.gather(*(source.send(*frames(name, EACH)) for name, (source, _) in fleet.items()))
        for _, one in fleet.values():
            await shipped(one, EACH)

        await fleet["a"][1].crash()
        shutil.rmtree(tmp_path / "a")

        # The others bury more. Shipping has begun, and hangs, when PostgreSQL goes away.
        lock = await asyncpg.connect(own_postgres.url)
        await lock.execute("begin; lock table unlost.letter_lines in exclusive mode")
        for name in NAMES[1:]:
            source, one = fleet[name]
            await source.send(frame(f"fine-{name}"))
            await one.heard.until(lambda h, name=name: h.ids(EventsStored) == [f"fine-{name}"])  # type: ignore[misc]
            await source.send(*frames(f"{name}-more", MORE))
            await one.heard.until(lambda h: len(h.of(EventBuried)) == EACH + MORE)
        own_postgres.kill()
        own_postgres.start()
        for name in NAMES[1:]:
            await shipped(fleet[name][1], EACH + MORE)
        assert [len(letters(tmp_path / name, name)) for name in NAMES[1:]] == [EACH + MORE] * 3

        before, both = Counter(RUNS.begun), asyncio.Barrier(2)
        RUNS.go_on.set()
        one_place, another = await asyncio.gather(*(replay(servers, name, both) for name in ("ana", "ben")))
        assert not one_place.error + another.error
        assert one_place.stored + another.stored == 4 * EACH + 3 * MORE
        assert min(one_place.stored, another.stored) > 0, "they share the work"
        assert {*(Counter(RUNS.begun) - before).values()} == {1}, "no letter ran twice"
    with contextlib.suppress(ConnectionError, asyncpg.PostgresError):
        await lock.close(timeout=1)
    expected = {f"{name}{n}" for name in NAMES for n in range(EACH)}
    expected |= {f"fine-{name}" for name in NAMES[1:]}
    expected |= {f"{name}-more{n}" for name in NAMES[1:] for n in range(MORE)}
    assert {row["event_id"] for row in await rows_of(own_postgres.url)} == expected
    connection = await asyncpg.connect(own_postgres.url)
    states = "select instance_id, status, count(*) from unlost.letters group by 1, 2 order by 1"
    assert [tuple(row) for row in await connection.fetch(states)] == [
        ("a", "resolved", EACH),
        *((name, "resolved", EACH + MORE) for name in NAMES[1:]),
    ]
    assert {row["state_by"] for row in await connection.fetch("select distinct state_by from unlost.letters")} == {
        "ana", "ben"
    }  # fmt: skip
    await connection.close()
