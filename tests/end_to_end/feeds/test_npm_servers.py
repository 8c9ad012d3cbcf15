"""Socket.IO and GraphQL as npm serves them: the shipped profiles, two listeners, ended subscriptions, a restart."""

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.feeds.node import NodeFeeds, installed
from tests.support.listeners import RunningListener, rows_of, running_listener, until_among
from unlost.listener.core.facts import EventBuried, EventsDuplicate, EventsStored

EXAMPLES = Path(__file__).parents[3] / "docs" / "examples"
FEEDS = ("socketio", "graphql-transport-ws")


@pytest.fixture
async def feeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[NodeFeeds]:
    directory = tmp_path / "node"
    directory.mkdir()
    server = NodeFeeds(installed(directory))
    await server.start()
    for name, value in {
        "SOCKETIO_URL": f"ws://127.0.0.1:{server.state['port']}",
        "GRAPHQL_URL": f"ws://127.0.0.1:{server.state['port']}/graphql",
        "GRAPHQL_SUBSCRIPTION": json.dumps("subscription { tick { id n } }"),
        "GRAPHQL_FIELD": "tick",
    }.items():
        monkeypatch.setenv(name, value)
    yield server
    await server.kill()


def known_to(listener: RunningListener) -> set[str]:
    return {one for kind in (EventsStored, EventsDuplicate) for one in listener.heard.ids(kind)}


def wanted_prices(feeds: NodeFeeds) -> set[str]:
    return {f"{side}{number}" for side in "ab" for number in range(feeds.state["published"])}


def all_subscribed(state: dict[str, Any]) -> bool:
    return all(state[feed]["subscribed"] == 2 for feed in FEEDS)


async def until_ended(both: list[RunningListener], feeds: NodeFeeds) -> None:
    def ended() -> int:
        return sum(len(one.heard.ids(EventsStored)) + len(one.heard.of(EventBuried)) for one in both)

    await until_among(both, lambda: ended() >= len(FEEDS) * feeds.state["published"])


@pytest.mark.long
@pytest.mark.timeout(330)  # npm may take 240 s of them to install
async def test_two_listeners_store_every_event_of_the_real_servers_once(
    feeds: NodeFeeds, redis_url: str, database_url: str, tmp_path: Path
):
    servers = {"redis_url": redis_url, "database_url": database_url, "directory": tmp_path}
    settings: dict[str, Any] = {"ws_url": "ws://127.0.0.1:9/", "source": " ".join(FEEDS), **servers}
    async with contextlib.AsyncExitStack() as stack:
        both = [await stack.enter_async_context(running_listener(**settings, instance_id=name)) for name in "ab"]
        await feeds.until(all_subscribed)
        await feeds.publish(40)
        for feed in [*FEEDS, *FEEDS]:
            await feeds.end(feed)
        await until_ended(both, feeds)
        await feeds.until(lambda state: state["socketio"]["pongs"] >= 4)

        await feeds.kill()
        await feeds.start()
        await feeds.until(all_subscribed)
        await feeds.publish(40)
        await until_ended(both, feeds)
        counts = [one["feed"] for listener in both for one in listener.health["sources"]]
    numbers = range(feeds.state["published"])
    wanted = sorted([f"s{number}" for number in numbers] + [f"g{number}" for number in numbers])
    assert [row["event_id"] for row in await rows_of(database_url)] == wanted
    assert [one.heard.of(EventBuried) for one in both] == [[], []]
    assert all(one["control"] > 0 and one["refused"] == 0 for one in counts)


@pytest.mark.long
@pytest.mark.timeout(330)
async def test_a_class_reads_several_subscriptions_of_one_connection(
    feeds: NodeFeeds, redis_url: str, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.syspath_prepend(str(EXAMPLES / "prices"))
    settings: dict[str, Any] = {
        "ws_url": "ws://127.0.0.1:9/", "source": "prices:Prices", "redis_url": redis_url, "database_url": database_url,
    }  # fmt: skip
    graphql, each = "graphql-transport-ws", 4
    async with contextlib.AsyncExitStack() as stack:
        both = [
            await stack.enter_async_context(running_listener(**settings, directory=tmp_path, instance_id=name))
            for name in "ab"
        ]
        for turn in range(2):
            await feeds.until(lambda state: state[graphql]["subscribed"] == each)
            await feeds.publish(40)
            for _ in range(2 if turn == 0 else 0):  # first one subscription, then a connection with two
                await feeds.end(graphql, subscribed=each)
            await feeds.publish(40)
            await until_among(both, lambda: known_to(both[0]) | known_to(both[1]) >= wanted_prices(feeds))
            if turn == 0:
                await feeds.kill()
                await feeds.start()
        counts = [listener.health["sources"][0]["feed"] for listener in both]
    assert [row["event_id"] for row in await rows_of(database_url)] == sorted(wanted_prices(feeds))
    assert [one.heard.of(EventBuried) for one in both] == [[], []]
    assert all(one["refused"] == 0 for one in counts)
    assert {row["type"] for row in await rows_of(database_url)} == {"bid", "ask"}
