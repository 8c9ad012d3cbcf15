"""Events that were sent while no listener ran are a declared gap: on real servers, after a stop and after kill -9."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.end_to_end.feeds.test_backfill import PROFILE, Trades, gaps_of
from tests.support.feeds.feed import running
from tests.support.feeds.social import Gateway
from tests.support.listeners import RunningListener, rows_of, running_listener
from unlost.listener.core.facts import EventsStored, NotAcknowledged, SourceGap

NO_STREAM: dict[str, Any] = {"ws_url": "ws://127.0.0.1:9/"}
NUMBERED = PROFILE[: PROFILE.index("[backfill]")]


class Plain(Trades):
    """Any WebSocket server that sends JSON."""


def gaps(listener: RunningListener) -> list[tuple[Any, ...]]:
    return [
        (gap.how, gap.after, gap.resumed_at, gap.missing) for gap in (fact.gap for fact in listener.heard.of(SourceGap))
    ]


def stored(count: int) -> Callable[[Any], bool]:
    return lambda heard: len(heard.ids(EventsStored)) == count


@pytest.mark.parametrize("ends", ["stop", "crash"])
async def test_a_plain_server_is_a_gap_from_the_last_sign_of_life_to_the_next_start(
    redis_url: str, database_url: str, tmp_path: Path, ends: str
):
    async with running(Plain()) as feed:
        servers: dict[str, Any] = {"redis_url": redis_url, "database_url": database_url, "directory": tmp_path}
        began_at = time.time()
        async with running_listener(**servers, ws_url=feed.url, lease="2") as listener:
            await feed.until(1, 1)
            await feed.publish(3)
            await listener.heard.until(stored(3))
            await kept(database_url)
            assert gaps(listener) == [], "the first start has missed nothing that anybody knows of"
            await getattr(listener, ends)()
        stopped_at = time.time()
        feed.skip(5)
        async with running_listener(**servers, ws_url=feed.url, lease="2") as listener:
            await listener.heard.until(lambda heard: bool(heard.of(SourceGap)))
            assert gaps(listener) == [("disconnected", None, None, None)]
    (gap,) = await gaps_of(database_url)
    assert began_at < gap.began_at < stopped_at + 1.0
    assert gap.source == f"{feed.url}/"


@pytest.mark.parametrize("ends", ["stop", "crash"])
async def test_numbers_show_over_a_restart_what_is_missing(
    redis_url: str, database_url: str, tmp_path: Path, ends: str
):
    profile = tmp_path / "trades.toml"
    async with running(Trades()) as feed:
        profile.write_text(NUMBERED.format(feed=feed.url))
        servers = {**NO_STREAM, "redis_url": redis_url, "database_url": database_url, "directory": tmp_path}
        async with running_listener(**servers, source=str(profile), lease="2") as listener:
            await feed.until(1, 1)
            await feed.publish(4)
            await listener.heard.until(stored(4))
            await kept(database_url, '{"BTC":3}')
            await getattr(listener, ends)()
        feed.skip(5)
        async with running_listener(**servers, source=str(profile), lease="2") as listener:
            await feed.until(2, 1)
            await feed.publish(2)
            await listener.heard.until(lambda heard: bool(heard.of(SourceGap)))
            assert gaps(listener) == [("sequence", "BTC:3", "BTC:9", 5)]
        async with running_listener(**servers, source=str(profile), lease="2") as listener:
            await feed.until(3, 1)
            await feed.publish(1)
            await listener.heard.until(stored(1))
            await kept(database_url, '{"BTC":11}')
            assert gaps(listener) == [], "nothing was sent meanwhile"
        assert len(await rows_of(database_url)) == 7
    assert len(await gaps_of(database_url)) == 1


@pytest.mark.parametrize("ends", ["stop", "crash"])
async def test_numbers_of_a_session_that_ends_with_the_process_show_nothing_over_a_restart(
    redis_url: str, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: str
):
    async with running(Gateway()) as feed:
        for name, value in feed.environment().items():
            monkeypatch.setenv(name, value)
        servers = {**NO_STREAM, "redis_url": redis_url, "database_url": database_url, "directory": tmp_path}
        async with running_listener(**servers, source="discord", lease="2") as listener:
            await feed.until(1, 1)
            await feed.publish(3)
            await listener.heard.until(stored(3))
            await feed.end(feed.subscribed[0])
            await feed.until(2, 1)
            await feed.publish(3)
            await listener.heard.until(stored(6))
            await kept(database_url)
            assert gaps(listener) == [], "the session was resumed"
            await getattr(listener, ends)()
        await feed.publish(5)
        async with running_listener(**servers, source="discord", lease="2") as listener:
            await feed.until(3, 1)
            await feed.publish(3)
            await listener.heard.until(stored(3))
            await listener.heard.until(lambda heard: bool(heard.of(SourceGap)))
            assert gaps(listener) == [("disconnected", None, None, None)]
    assert len(await gaps_of(database_url)) == 1


async def test_a_listener_that_joins_others_has_missed_nothing(redis_url: str, database_url: str, tmp_path: Path):
    async with running(Plain()) as feed:
        servers: dict[str, Any] = {"redis_url": redis_url, "database_url": database_url, "directory": tmp_path}
        async with running_listener(**servers, ws_url=feed.url, instance_id="a") as one:
            await feed.until(1, 1)
            await kept(database_url)
            async with running_listener(**servers, ws_url=feed.url, instance_id="b") as other:
                await feed.until(2, 2)
                await kept(database_url, rows=2)
                assert (gaps(one), gaps(other)) == ([], [])


async def test_a_feed_that_cannot_be_acknowledged_is_stated_and_counted_by_its_source(
    redis_url: str, database_url: str, tmp_path: Path
):
    profile = tmp_path / "trades.toml"
    async with running(Trades()) as feed:
        text = NUMBERED[: NUMBERED.index("sequence")] + """ack = '{{{{"ack":"{{envelope}}"}}}}'"""
        profile.write_text(text.format(feed=feed.url).replace("{{", "{").replace("}}", "}"))
        servers = {**NO_STREAM, "redis_url": redis_url, "database_url": database_url, "directory": tmp_path}
        async with running_listener(**servers, source=str(profile)) as listener:
            await feed.until(1, 1)
            await feed.publish(3)
            await listener.heard.until(lambda heard: bool(heard.of(NotAcknowledged)))
            await listener.heard.until(stored(3))
            assert "a feed is not acknowledged: messages of" in str(listener.health)
            (source,) = listener.health["sources"]
            assert (source["feed"]["unacknowledged"], source["lag_seconds"]) == (3, 0.0)
            (stated, *_) = listener.heard.of(NotAcknowledged)
            assert stated.source == source["name"]


async def kept(database_url: str, numbers: str | None = None, rows: int = 1) -> None:
    """Return once the last contact is kept, with these numbers."""
    connection = await asyncpg.connect(database_url)
    try:
        async with asyncio.timeout(20):
            while True:  # the keeper states no fact
                found = await connection.fetch("select numbers from unlost.contacts order by heard_at desc")
                if len(found) >= rows and (numbers is None or found[0]["numbers"] == numbers):
                    return
                await asyncio.sleep(0.05)
    finally:
        await connection.close()
