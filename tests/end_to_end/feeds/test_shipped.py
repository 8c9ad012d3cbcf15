"""Each shipped feed, served as its documentation says: two listeners, planned disconnects, a stop and a crash.

Every event ends exactly once, and no control message is stored.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.feeds.feed import StandIn, running
from tests.support.feeds.markets import Binance, CoinbaseAdvanced, CoinbaseExchange, Kraken
from tests.support.feeds.protocols import CloudEvents, GraphQL, Phoenix, Seed000, Seed001, SocketIO
from tests.support.feeds.social import Gateway, Jetstream, Slack, Twitch
from tests.support.listeners import RunningListener, rows_of, running_listener, until_among
from unlost.listener.app.feeds import names
from unlost.listener.core.facts import EventBuried, EventsDuplicate, EventsStored

MARKETS = (CoinbaseExchange, CoinbaseAdvanced, Kraken, Binance, Seed001)
SOCIAL = (Jetstream, Slack, Twitch, Gateway, Seed000)
PROTOCOLS = (GraphQL, SocketIO, Phoenix, CloudEvents)


def test_each_shipped_feed_has_a_stand_in():
    assert sorted(one.source for one in (*MARKETS, *SOCIAL, *PROTOCOLS)) == names()


def counts_of(listener: RunningListener) -> dict[str, dict[str, int]]:
    """The health of each feed."""
    return {one["name"]: one["feed"] for one in listener.health["sources"]}


async def disconnect(feed: StandIn) -> None:
    """Publish, and disconnect all clients meanwhile: together, if the feed is made for that; else one by one."""
    await feed.until(2, 2)
    await feed.publish(30)
    for group in [list(feed.subscribed)] if feed.gapless else [[one] for one in feed.subscribed]:
        wanted = feed.connections + len(group)
        publishing = asyncio.create_task(feed.publish(30))
        for client in group:
            await feed.end(client)
        await publishing
        await feed.until(wanted, 2)
    await feed.publish(30)


class Group:
    """Two listeners of all these feeds, and those that they replaced."""

    def __init__(self, feeds: Sequence[StandIn], settings: dict[str, Any], stack: contextlib.AsyncExitStack) -> None:
        self.feeds = feeds
        self.all: list[RunningListener] = []
        self.now: dict[str, RunningListener] = {}
        self.counts: list[dict[str, dict[str, int]]] = []
        """The last health of each listener."""
        self._settings = settings
        self._stack = stack

    async def start(self, name: str) -> None:
        listener = running_listener(**self._settings, instance_id=name)
        self.now[name] = await self._stack.enter_async_context(listener)
        self.all.append(self.now[name])

    async def replace(self, name: str, *, in_order: bool) -> None:
        """Stop or crash a listener while all feeds publish, and start another one under its name."""
        wanted = [feed.connections + 1 for feed in self.feeds]
        publishing = asyncio.gather(*(feed.publish(30) for feed in self.feeds))
        await (self.now[name].stop() if in_order else self.now[name].crash())
        self.counts.append(counts_of(self.now[name]))
        await publishing
        await self.start(name)
        await asyncio.gather(*(feed.until(count, 2) for feed, count in zip(self.feeds, wanted, strict=True)))
        for feed in self.feeds:
            feed.starts += 1

    async def until_all_ended(self) -> None:
        """Wait until each event of each feed is known as a row, or as a letter."""
        wanted = {event_id for feed in self.feeds for event_id in feed.ids}

        def ended() -> bool:
            heard = [one.heard for one in self.all]
            known = {
                event_id for one in heard for kind in (EventsStored, EventsDuplicate) for event_id in one.ids(kind)
            }
            return known >= wanted or any(one.of(EventBuried) for one in heard)

        await until_among(list(self.now.values()), ended)


@pytest.mark.parametrize("kinds", [MARKETS, SOCIAL, PROTOCOLS], ids=["markets", "social", "protocols"])
async def test_two_listeners_store_every_event_once_and_no_control_message(
    kinds: Sequence[type[StandIn]], redis_url: str, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    servers = {"redis_url": redis_url, "database_url": database_url, "directory": tmp_path}
    async with contextlib.AsyncExitStack() as stack:
        feeds = [await stack.enter_async_context(running(kind())) for kind in kinds]
        for name, value in [item for feed in feeds for item in feed.environment().items()]:
            monkeypatch.setenv(name, value)
        settings = {"ws_url": "ws://127.0.0.1:9/", "source": " ".join(kind.source for kind in kinds), **servers}
        group = Group(feeds, settings, stack)
        await group.start("a")
        await group.start("b")
        await asyncio.gather(*(disconnect(feed) for feed in feeds))
        await group.replace("a", in_order=True)
        await asyncio.gather(*(feed.publish(30) for feed in feeds))
        await group.replace("b", in_order=False)
        await asyncio.gather(*(feed.publish(30) for feed in feeds))
        await group.until_all_ended()
        sources = [*group.counts, *(counts_of(one) for one in group.now.values())]
        for feed in feeds:
            if isinstance(feed, Slack):
                await feed.until_acknowledged()
    ids = sorted(event_id for feed in feeds for event_id in feed.ids)
    assert sorted(row["event_id"] for row in await rows_of(database_url)) == ids
    assert [one.heard.of(EventBuried) for one in group.all] == [[], [], [], []]
    for feed in feeds:
        counts = [each[feed.source] for each in sources]
        assert sum(one["control"] for one in counts) > 0 or feed.control_sent == 0
        assert all(one["refused"] == 0 for one in counts)
        feed.check()
