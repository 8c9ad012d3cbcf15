"""``SOURCE=socketio://…`` against the real server: binary events, a namespace, acknowledgements, recovery."""

import base64
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.feeds.node import NodeFeeds, installed
from tests.support.listeners import RunningListener, rows_of, running_listener, until_among
from unlost.listener.core.facts import EventBuried, EventsDuplicate, EventsStored, SourceGap

ASKS = 3
"""Of four events, the one with this number asks for an acknowledgement."""


@pytest.fixture
async def server(request: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[NodeFeeds]:
    monkeypatch.setenv("RECOVERY", getattr(request, "param", "0"))
    directory = tmp_path / "node"
    directory.mkdir()
    feeds = NodeFeeds(installed(directory).with_name("socketio.js"))
    await feeds.start()
    yield feeds
    await feeds.kill()


@pytest.fixture
def settings(server: NodeFeeds, redis_url: str, database_url: str, tmp_path: Path) -> dict[str, Any]:
    password = tmp_path / "auth.json"
    password.write_text('{"key":"sesame"}')
    source = f"socketio://127.0.0.1:{server.state['port']}/orders?auth={password}"
    servers = {"redis_url": redis_url, "database_url": database_url, "directory": tmp_path}
    return {"ws_url": "ws://127.0.0.1:9/", "source": source, **servers}


def published(server: NodeFeeds) -> set[str]:
    return {f"o{number}" for number in range(server.state["published"])}


async def until_known(listeners: list[RunningListener], server: NodeFeeds) -> None:
    """Wait until each event is a row, as one of the listeners knows."""

    def known() -> set[str]:
        heard = [one.heard for one in listeners]
        return {event_id for one in heard for kind in (EventsStored, EventsDuplicate) for event_id in one.ids(kind)}

    await until_among(listeners, lambda: known() >= published(server))


def acknowledged(state: dict[str, Any], first: int) -> bool:
    """Whether all events that asked for it, from this number on, were acknowledged to some connection at least."""
    return set(state["socketio"]["acked"]) == {f"o{n}" for n in range(first, state["published"]) if n % 4 == ASKS}


@pytest.mark.long
@pytest.mark.timeout(330)  # npm may take 240 s of them to install
async def test_two_listeners_store_what_a_namespace_sends_once_and_acknowledge_it(
    server: NodeFeeds, settings: dict[str, Any], database_url: str
):
    async with contextlib.AsyncExitStack() as stack:
        both = [await stack.enter_async_context(running_listener(**settings, instance_id=name)) for name in "ab"]
        await server.until(lambda state: state["socketio"]["subscribed"] == 2)
        for _ in range(3):  # from the namespace, from the server, and by a lost connection
            await server.end("socketio")
            await until_known(both, server)
            await server.until(lambda state: acknowledged(state, 0))  # by the client that was not ended, at least
        first = server.state["published"]
        await server.kill()
        await server.start()
        await server.until(lambda state: state["socketio"]["subscribed"] == 2)
        await server.publish(40)
        await until_known(both, server)
        await server.until(lambda state: acknowledged(state, first))
        gaps = [{fact.gap.how for fact in one.heard.of(SourceGap)} for one in both]
        counts = [one["feed"] for listener in both for one in listener.health["sources"]]
    rows = {row["event_id"]: row for row in await rows_of(database_url)}
    assert set(rows) == published(server)
    assert [one.heard.of(EventBuried) for one in both] == [[], []]
    assert all(one["refused"] == 0 and one["acknowledged"] > 0 for one in counts)
    assert all("disconnected" in found for found in gaps)
    picture, note = json.loads(rows["o41"]["payload"]), json.loads(rows["o42"]["payload"])
    assert rows["o41"]["type"] == "picture"
    assert base64.b64decode(picture["image"]) == bytes([0, 255, 41])
    assert [base64.b64decode(one) for one in picture["parts"]] == [bytes([0, 255, 42])]
    assert note[0]["n"] == 42
    assert note[1:] == ["note 42", base64.b64encode(bytes([0, 255, 42])).decode()]


@pytest.mark.long
@pytest.mark.timeout(330)
@pytest.mark.parametrize("server", ["1"], indirect=True)
async def test_a_recovered_connection_misses_nothing_and_declares_no_gap(
    server: NodeFeeds, settings: dict[str, Any], database_url: str
):
    async with running_listener(**settings, instance_id="a") as listener:
        await server.until(lambda state: state["socketio"]["subscribed"] == 1)
        await server.publish(8)
        await until_known([listener], server)
        for _ in range(2):
            await server.end("socketio", subscribed=1)
            await until_known([listener], server)
        assert server.state["socketio"]["recovered"] == 2
        assert listener.heard.of(SourceGap) == []
        await server.kill()  # and with it its sessions
        await server.start()
        await server.until(lambda state: state["socketio"]["subscribed"] == 1)
        await server.publish(8)
        await until_known([listener], server)
        assert server.state["socketio"]["recovered"] == 0
        assert [fact.gap.how for fact in listener.heard.of(SourceGap)] == ["disconnected"]
    assert {row["event_id"] for row in await rows_of(database_url)} == published(server)
    assert listener.heard.of(EventBuried) == []
