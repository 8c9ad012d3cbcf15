"""Members of a group with different handlers: running ones go on, and the new one waits and says why."""

import asyncio
import json
from pathlib import Path

import pytest

from tests.support.listeners import RunningListener, rows_of, running_listener
from tests.support.source import running_source
from unlost.listener.core.delivery import Delivery
from unlost.listener.core.facts import EventsStored, SourceConnected


async def handle(event: Delivery) -> None:
    """The group's handler."""


async def other(event: Delivery) -> None:
    """Another handler."""


RIGHT, OTHER = f"{__name__}:handle", f"{__name__}:other"


@pytest.fixture
def servers(redis_url: str, database_url: str, tmp_path: Path) -> dict:
    return {"redis_url": redis_url, "database_url": database_url, "directory": tmp_path}


def frame(number: int) -> str:
    return json.dumps({"event_id": f"e{number}", "payload": number})


async def why_refused(one: RunningListener) -> str:
    """Why it is not ready, once it reports that another handler is at work."""
    while "another handler" not in (why := str(one.daemon.health().ready()["reasons"])):  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    return why


@pytest.mark.parametrize("newcomers", [{"handler": OTHER}, {}, {"handler": RIGHT, "handler_version": "2"}])
async def test_the_newcomer_waits_until_the_others_are_gone(servers: dict, newcomers: dict) -> None:
    async with running_source() as source:
        same = {"ws_url": source.url, **servers}
        async with running_listener(**same, handler=RIGHT) as old:
            await source.wait_for_clients(1)
            async with running_listener(**same, instance_id="b", **newcomers) as new:
                assert f"listener a has {RIGHT}" in await why_refused(new)
                await source.send(*map(frame, range(50)))
                await old.heard.until(lambda heard: len(heard.ids(EventsStored)) == 50)
                assert new.heard.of(SourceConnected) == []
                assert {row["handler"] for row in await rows_of(servers["database_url"])} == {RIGHT}
                await old.stop()
                await new.heard.until(lambda heard: bool(heard.of(SourceConnected)))
                await source.send(*map(frame, range(50, 60)))
                await new.heard.until(lambda heard: len(heard.ids(EventsStored)) == 10)
    assert {row["instance_id"] for row in await rows_of(servers["database_url"])} == {"a", "b"}


async def test_a_deploy_may_change_the_handler(servers: dict) -> None:
    async with running_source() as source:
        same = {"ws_url": source.url, **servers}
        async with running_listener(**same, handler=RIGHT) as old:
            await source.wait_for_clients(1)
            async with running_listener(**same, instance_id="b", handler=OTHER, handler_change="yes") as new:
                await new.heard.until(lambda heard: bool(heard.of(SourceConnected)))
                await old.stop()
                await source.send(frame(1))
                await new.heard.until(lambda heard: heard.ids(EventsStored) == ["e1"])
    assert [row["handler"] for row in await rows_of(servers["database_url"])] == [OTHER]
