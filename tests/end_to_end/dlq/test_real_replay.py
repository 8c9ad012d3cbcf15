"""Letters of a real listener, replayed through a real engine, with and without running listeners."""

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from tests.support.listeners import rows_of, running_listener
from tests.support.source import running_source
from unlost.dlq.edit.change import PatchChange
from unlost.dlq.edit.editing import edit
from unlost.dlq.record.file import read_letters
from unlost.dlq.record.query import Selection
from unlost.dlq.record.sidecar import states
from unlost.dlq.store.files import FileLetters
from unlost.listener.core.delivery import Delivery
from unlost.listener.core.errors import Reject
from unlost.listener.core.facts import EventBuried, EventsDuplicate, EventsStored

FEW = 4
"""So many events may fail one after another. A route on which more do, and none succeeds, pauses."""


OF_AN_OPERATOR = {"UNLOST_TOKEN": "operate-42", "unlost_token_file": "/run/secrets/token"}
"""Secrets in the environment of a replay that its handler must not see."""


async def fail(event: Delivery) -> None:
    if event.payload == "fine":
        return
    raise ValueError(f"no such order {event.event_id}")


async def refuse(event: Delivery) -> None:
    raise Reject("no such order")


async def repaired(event: Delivery) -> None:
    assert not {"UNLOST_TOKEN", "unlost_token_file"} & os.environ.keys()
    if event.payload == "never":
        raise ValueError("still no such order")


@pytest.fixture
def servers(redis_url: str, database_url: str, tmp_path: Path) -> dict:
    return {"redis_url": redis_url, "database_url": database_url, "directory": tmp_path}


def frame(event_id: str, payload: object) -> str:
    return json.dumps({"event_id": event_id, "payload": payload})


async def replay(servers: dict, *flags: str) -> tuple[int, dict]:
    """With another handler than the listener's, as if it had been fixed meanwhile."""
    code, out, err = await dlq_replay(servers, "--handler", f"{__name__}:repaired", "--other-handler", *flags)
    assert out, err
    return code, json.loads(out)["report"]


async def dlq_replay(servers: dict, *flags: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "unlost", "dlq", "replay", servers["directory"] / "a.jsonl", "--json",
        "--redis-url", servers["redis_url"], "--database-url", servers["database_url"], "--lease", "3",
        "--handle-delay", "0.01", "--insert-delay", "0.01", *flags,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env={**os.environ, **OF_AN_OPERATOR},
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), 50)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def bury(source, one, *frames: str) -> None:
    await source.wait_for_clients(1)
    for first in range(0, len(frames), FEW):
        if first:
            await source.send(frame(f"fine{first}", "fine"))
            await one.heard.until(lambda heard, number=first: f"fine{number}" in heard.ids(EventsStored))
        buried = min(first + FEW, len(frames))
        await source.send(*frames[first:buried])
        await one.heard.until(lambda heard, count=buried: len(heard.of(EventBuried)) == count)


async def replayed(servers: dict) -> list[str]:
    """The ids of rows that a replay has made."""
    return [row["event_id"] for row in await rows_of(servers["database_url"]) if row["event_id"].startswith("e")]


async def test_buried_events_become_rows_once_their_handler_is_repaired(servers: dict):
    async with (
        running_source() as source,
        running_listener(ws_url=source.url, **servers, handler=f"{__name__}:fail", handle_delay="0.01") as one,
    ):
        await bury(source, one, *(frame(f"e{i}", i) for i in range(20)), frame("bad", "never"))
    code, report = await replay(servers)
    assert (code, report["stored"], report["failed"]) == (1, 20, 1)
    assert len(await replayed(servers)) == 20
    code, report = await replay(servers)
    assert (code, report["stored"], report["failed"]) == (1, 0, 1)
    state = next(one for one in states(servers["directory"] / "a.jsonl").values() if one.status != "resolved")
    assert (state.status, state.replays, state.error_type) == ("failed", 2, "ValueError")
    assert len(list(read_letters(servers["directory"] / "a.jsonl"))) == 21


async def test_an_edited_letter_becomes_a_row_and_a_copy_of_the_original_is_its_duplicate(servers: dict):
    async with (
        running_source() as source,
        running_listener(ws_url=source.url, **servers, handler=f"{__name__}:fail", handle_delay="0.01") as one,
    ):
        await bury(source, one, frame("e1", "never"))
        files = FileLetters([servers["directory"] / "a.jsonl"])
        change = PatchChange(b'[{"op": "replace", "path": "/payload", "value": "now"}]')
        assert (await edit(files, Selection(), change, by="ana", why="", about="test")).changed == 1
        code, report = await replay(servers)
        assert (code, report["stored"]) == (0, 1)
        (row,) = [row for row in await rows_of(servers["database_url"]) if row["event_id"] == "e1"]
        assert (row["payload"], row["letter_version"]) == ('"now"', 2)
        await source.send(frame("e1", "never"))
        await one.heard.until(lambda heard: heard.ids(EventsDuplicate) == ["e1"])
        await source.send(frame("e1", "something else"))
        await one.heard.until(lambda heard: len(heard.of(EventBuried)) == 2)
    assert heard_reasons(one) == ["exhausted", "conflict"], "other content is still a conflict"
    (state,) = [one for one in states(servers["directory"] / "a.jsonl").values() if one.status == "resolved"]
    assert state.detail == "version 2 stored"


def heard_reasons(one) -> list[str]:
    return [fact.reason for fact in one.heard.of(EventBuried)]


async def test_a_replay_runs_while_listeners_work(servers: dict):
    async with (
        running_source() as source,
        running_listener(ws_url=source.url, **servers, handler=f"{__name__}:fail", handle_delay="0.01") as one,
    ):
        await bury(source, one, *(frame(f"e{i}", i) for i in range(5)))
        code, report = await replay(servers)
        assert (code, report["stored"]) == (0, 5)
    assert len(await replayed(servers)) == 5


async def test_the_other_content_of_a_conflict_is_never_taken_for_stored(servers: dict):
    async with running_source() as source, running_listener(ws_url=source.url, **servers) as one:
        await source.wait_for_clients(1)
        await source.send(frame("e", 1))
        await one.heard.until(lambda heard: heard.ids(EventsStored) == ["e"])
        await source.send(frame("e", 2))
        await one.heard.until(lambda heard: len(heard.of(EventBuried)) == 1)
    code, report = await replay(servers)
    assert (code, report["resolved"], report["failed"]) == (1, 0, 1)


async def test_a_replay_without_the_groups_handler_is_refused(servers: dict):
    """While its listener lives, and afterwards by the handler in the letters. One sentence says what to do."""
    right, other = f"{__name__}:fail", f"{__name__}:repaired"
    async with (
        running_source() as source,
        running_listener(ws_url=source.url, **servers, handler=right, handler_version="7", handle_delay="0.01") as one,
    ):
        await bury(source, one, frame("e", 1))
        code, out, err = await dlq_replay(servers)
        assert (code, out) == (2, "")
        assert err.startswith(f"error: listener a has the handler {right}@7, and this replay has no handler")
        assert f"set HANDLER={right} HANDLER_VERSION=7, or insist with --without-handler" in err
        code, _, err = await dlq_replay(servers, "--handler", other)
        assert (code, "or insist with --other-handler" in err) == (2, True)
        code, _, err = await dlq_replay(servers, "--handler", right, "--handler-version", "8")
        assert (code, "listener a has the handler" in err) == (2, True), "another version counts as another handler"
        code, out, _ = await dlq_replay(servers, "--handler", right, "--handler-version", "7")
        assert (code, json.loads(out)["report"]["failed"]) == (1, 1)
    code, _, err = await dlq_replay(servers)
    assert (code, err.startswith(f"error: no listener is running, the letters name the handler {right}@7")) == (
        2,
        True,
    )
    assert await rows_of(servers["database_url"]) == [], "nothing was stored without its handler"
    code, out, _ = await dlq_replay(servers, "--without-handler")
    assert (code, json.loads(out)["report"]["stored"]) == (0, 1)
    assert [row["handler"] for row in await rows_of(servers["database_url"])] == [None]


async def test_rejected_letters_are_replayed_only_on_request(servers: dict):
    async with (
        running_source() as source,
        running_listener(ws_url=source.url, **servers, handler=f"{__name__}:refuse", handle_delay="0.01") as one,
    ):
        await bury(source, one, frame("e", 1))
    code, out, _ = await dlq_replay(servers, "--handler", f"{__name__}:refuse", "--handler-version", "2")
    assert (code, json.loads(out)["plan"]["letters"], json.loads(out)["plan"]["passed_over"]) == (0, 0, {"rejected": 1})
    for asked in (["--all"], ["--reason", "rejected"], ["--id", "e"]):
        _, out, _ = await dlq_replay(servers, "--dry-run", *asked)
        assert json.loads(out)["plan"]["letters"] == 1
    code, report = await replay(servers, "--all")
    assert (code, report["stored"]) == (0, 1)
