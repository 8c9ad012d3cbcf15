"""Letters of a real listener, replayed through a real engine, while listeners work or not."""

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from dlq.file import read_letters
from dlq.sidecar import states
from listener.delivery import Delivery
from listener.facts import EventBuried, EventsStored
from tests.support.listeners import rows_of, running_listener
from tests.support.source import running_source


async def fail(event: Delivery) -> None:
    raise ValueError(f"no such order {event.event_id}")


async def repaired(event: Delivery) -> None:
    if event.payload == "never":
        raise ValueError("still no such order")


@pytest.fixture
def servers(redis_url: str, database_url: str, tmp_path: Path) -> dict:
    return {"redis_url": redis_url, "database_url": database_url, "directory": tmp_path}


def frame(event_id: str, payload: object) -> str:
    return json.dumps({"event_id": event_id, "payload": payload})


async def replay(servers: dict, *flags: str) -> tuple[int, dict]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "from dlq.cli import main; main()", "replay", servers["directory"] / "a.jsonl", "--json",
        "--redis-url", servers["redis_url"], "--database-url", servers["database_url"], "--lease", "3",
        "--handler", f"{__name__}:repaired", "--handle-delay", "0.01", "--insert-delay", "0.01", *flags,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=dict(os.environ),
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), 50)
    assert process.returncode is not None
    assert out, err.decode()
    return process.returncode, json.loads(out)["report"]


async def bury(source, one, *frames: str) -> None:
    await source.wait_for_clients(1)
    await source.send(*frames)
    await one.heard.until(lambda heard: len(heard.of(EventBuried)) == len(frames))


async def test_buried_events_become_rows_once_their_handler_is_repaired(servers: dict):
    async with (
        running_source() as source,
        running_listener(ws_url=source.url, **servers, handler=f"{__name__}:fail", handle_delay="0.01") as one,
    ):
        await bury(source, one, *(frame(f"e{i}", i) for i in range(20)), frame("bad", "never"))
    code, report = await replay(servers)
    assert (code, report["stored"], report["failed"]) == (1, 20, 1)
    assert len(await rows_of(servers["database_url"])) == 20
    code, report = await replay(servers)
    assert (code, report["stored"], report["failed"]) == (1, 0, 1)
    state = next(one for one in states(servers["directory"] / "a.jsonl").values() if one.status != "resolved")
    assert (state.status, state.replays, state.error_type) == ("failed", 2, "ValueError")
    assert len(list(read_letters(servers["directory"] / "a.jsonl"))) == 21


async def test_a_replay_runs_while_listeners_work(servers: dict):
    async with (
        running_source() as source,
        running_listener(ws_url=source.url, **servers, handler=f"{__name__}:fail", handle_delay="0.01") as one,
    ):
        await bury(source, one, *(frame(f"e{i}", i) for i in range(5)))
        code, report = await replay(servers)
        assert (code, report["stored"]) == (0, 5)
    assert len(await rows_of(servers["database_url"])) == 5


async def test_the_other_content_of_a_conflict_is_never_taken_for_stored(servers: dict):
    async with running_source() as source, running_listener(ws_url=source.url, **servers) as one:
        await source.wait_for_clients(1)
        await source.send(frame("e", 1))
        await one.heard.until(lambda heard: heard.ids(EventsStored) == ["e"])
        await source.send(frame("e", 2))
        await one.heard.until(lambda heard: len(heard.of(EventBuried)) == 1)
    code, report = await replay(servers)
    assert (code, report["resolved"], report["failed"]) == (1, 0, 1)
