"""The engine of a replay: an error that ends the engine ends the replay, and nothing waits for it."""

import asyncpg
import pytest

from unlost.listener.app.replay_engine import EngineRerun
from unlost.listener.app.settings import ConnectionSettings
from unlost.listener.core.errors import Misconfigured
from unlost.listener.core.event import parse
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.migrations import migrate


class Broken(Exception):
    """A mistake in the engine."""


async def test_an_engine_that_dies_ends_the_replay(redis_url: str, database_url: str, monkeypatch) -> None:
    settings = ConnectionSettings.load({"redis_url": redis_url, "database_url": database_url})
    database = Database(database_url)
    await migrate(database)
    await database.close()
    async with EngineRerun(settings) as rerun:
        pipeline = rerun._engine.pipeline

        async def broken(*_: object, **__: object) -> None:
            raise Broken

        monkeypatch.setattr(pipeline.claiming, "_claim_batch", broken)
        with pytest.raises(ExceptionGroup) as told:
            await rerun.run(parse(b'{"event_id":"x","payload":1}', max_bytes=1_000))
        assert told.group_contains(Broken)


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
