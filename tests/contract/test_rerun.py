"""The engine of a replay: an error that ends the engine ends the replay, and nothing waits for it."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from unlost import App, Delivery
from unlost.listener.app.connection_settings import ConnectionSettings
from unlost.listener.app.replay_engine import EngineRerun
from unlost.listener.claims.manager import ClaimManager
from unlost.listener.core.errors import Misconfigured, Transient
from unlost.listener.core.event import parse
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.migrations import migrate

pytestmark = pytest.mark.database("migrated")

GONE = asyncio.Event()
app = App()


@app.lifespan
async def warehouse() -> AsyncIterator[None]:
    """Ends while it is still needed: what it started in the background fails."""
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(lost())
        yield


async def lost() -> None:
    await GONE.wait()
    raise ConnectionError("the warehouse is gone")


@app.otherwise
async def note(event: Delivery) -> None:
    """Do nothing."""


class Broken(Exception):
    """A mistake in the engine."""


async def test_an_engine_that_dies_ends_the_replay(redis_url: str, database_url: str, monkeypatch) -> None:
    settings = ConnectionSettings.load({"redis_url": redis_url, "database_url": database_url})
    database = Database(database_url)
    await migrate(database)
    await database.close()
    async with EngineRerun(settings) as rerun:

        async def broken(*_: object, **__: object) -> None:
            raise Broken

        monkeypatch.setattr(ClaimManager, "claim", broken)
        rerun.start(parse(b'{"event_id":"x","payload":1}', max_bytes=1_000), lambda _: None)
        with pytest.raises(ExceptionGroup) as shown:
            await rerun.unable()
        assert shown.group_contains(Broken)


async def test_a_replay_ends_with_the_lifespan_of_its_handler(redis_url: str, database_url: str) -> None:
    given = {"redis_url": redis_url, "database_url": database_url, "handler": f"{__name__}:app"}
    database = Database(database_url)
    await migrate(database)
    await database.close()
    async with EngineRerun(ConnectionSettings.load(given)) as rerun, asyncio.timeout(20):
        GONE.set()
        with pytest.raises(Transient, match=r"HANDLER=.*:app: the lifespan ended by itself: .*: run the replay again"):
            await rerun.unable()


@pytest.mark.database("empty")
async def test_a_replay_makes_no_schema_for_a_mistyped_group(redis_url: str, database_url: str) -> None:
    servers = {"redis_url": redis_url, "database_url": database_url, "group": "typo"}
    with pytest.raises(
        Misconfigured, match=r"schema unlost_typo lacks .*; correct GROUP, or run `unlost migrate` first"
    ):
        async with EngineRerun(ConnectionSettings.load(servers)):
            raise AssertionError
    connection = await asyncpg.connect(database_url)
    schemas = await connection.fetchval("select count(*) from pg_namespace where nspname like 'unlost%'")
    await connection.close()
    assert schemas == 0


async def test_an_effect_that_the_replays_settings_do_not_allow_ends_the_replay(
    redis_url: str, database_url: str
) -> None:
    database = Database(database_url)
    await migrate(database)
    await database.close()
    connection = await asyncpg.connect(database_url)
    await connection.execute(
        "INSERT INTO unlost.effects (event_id, number, kind, url, host, headers, body, status) "
        "VALUES ('a', 1, 'publish', '', 'producer', '{}', '{}', 'buried')"
    )
    ended: list[object] = []
    settings = ConnectionSettings.load({"redis_url": redis_url, "database_url": database_url})
    async with EngineRerun(settings) as rerun, asyncio.timeout(20):
        rerun.start_effect("a", 1, ended.append)
        with pytest.raises(Transient, match="EFFECT_PRODUCER is not set, in the settings of this replay"):
            await rerun.unable()
    assert ended == [], "the letter stays as it is"
    row = await connection.fetchrow("SELECT attempts, leased_until <= now() AS free FROM unlost.effects")
    assert row is not None
    assert tuple(row) == (0, True)
    await connection.close()
