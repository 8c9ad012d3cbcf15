"""The engine of a replay: an error that ends the engine ends the replay, and nothing waits for it."""

import pytest

from unlost.listener.app.replay_engine import EngineRerun
from unlost.listener.app.settings import ConnectionSettings
from unlost.listener.core.event import parse


class Broken(Exception):
    """A mistake in the engine."""


async def test_an_engine_that_dies_ends_the_replay(redis_url: str, database_url: str, monkeypatch) -> None:
    settings = ConnectionSettings.load({"redis_url": redis_url, "database_url": database_url})
    async with EngineRerun(settings) as rerun:
        pipeline = rerun._engine.pipeline

        async def broken(*_: object, **__: object) -> None:
            raise Broken

        monkeypatch.setattr(pipeline.claiming, "_ask", broken)
        with pytest.raises(ExceptionGroup) as told:
            await rerun.run(parse(b'{"event_id":"x","payload":1}', max_bytes=1_000))
        assert told.group_contains(Broken)
