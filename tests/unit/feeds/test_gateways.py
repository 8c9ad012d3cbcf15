"""What Discord's gateway and Twitch's EventSub say beside events, by servers that speak as their documentation says."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.support.feeds.feed import StandIn, running
from tests.support.feeds.social import Gateway, Twitch
from tests.support.reading import Reading, reading
from tests.unit.feeds.test_sessions import Server, opened, serving, source_of, taken
from unlost.listener.core.facts import SourceConnected, SourceLost
from unlost.listener.ports.source import Batch, SourceEnded
from unlost.listener.source.feed import beating, moves
from unlost.listener.source.feed.described import with_query
from unlost.listener.source.feed.hook import Feed
from unlost.listener.source.feed.shipped.discord import Discord
from unlost.listener.source.feed.shipped.twitch import Twitch as TwitchFeed
from unlost.listener.source.feed.signs import Signs
from unlost.listener.source.feed.source import FeedSource
from unlost.listener.source.websocket.connection import WebSocketOptions


class Read:
    """A stand-in that is read, and the gaps that are declared."""

    def __init__(self, one: Reading, feed: StandIn, gaps: list[str]) -> None:
        self.one, self.feed, self.gaps = one, feed, gaps

    async def until_all(self) -> None:
        """Wait until every event has come."""
        async with asyncio.timeout(15):
            while not {*self.feed.ids} <= {*self.ids}:  # noqa: ASYNC110 - what is read is no fact
                await asyncio.sleep(0.01)

    @property
    def ids(self) -> list[str]:
        return [json.loads(body)["event_id"] for body in self.one.inlet.bodies]

    @property
    def lost(self) -> list[SourceLost]:
        return self.one.of(SourceLost)

    async def until_lost(self) -> SourceLost:
        await self.one.until(lambda r: bool(r.of(SourceLost)))
        return self.lost[0]


@contextlib.asynccontextmanager
async def read(feed: StandIn, kind: type[Any]) -> AsyncIterator[Read]:
    gaps: list[str] = []
    async with running(feed):
        described: Feed = kind(feed.environment())
        source = FeedSource(feed.source, described, declare=lambda source, how, **_: gaps.append(how))
        async with reading("", source=source) as one:
            yield Read(one, feed, gaps)


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beating, "PATIENCE", 1.0)


# -- Discord --------------------------------------------------------------------------------------


@pytest.mark.parametrize("asks", [{"op": 7, "d": None}, {"op": 9, "d": True}], ids=["reconnect", "invalid-resumable"])
async def test_discord_is_resumed_on_a_new_connection_if_the_gateway_asks_for_it(asks: dict[str, Any]):
    gateway = Gateway()
    async with read(gateway, Discord) as found:
        await gateway.until(1, 1)
        await gateway.publish(3)
        await gateway.control(gateway.subscribed[0], asks)
        await gateway.publish(3)
        await gateway.until(2, 1)
        await gateway.publish(3)
        await found.until_all()
    assert [session for session, _ in gateway.resumed] == ["session-1"]
    assert (found.lost, found.gaps) == ([], [])


async def test_discord_begins_a_new_session_if_the_gateway_has_none_and_declares_it():
    gateway = Gateway()
    async with read(gateway, Discord) as found:
        await gateway.until(1, 1)
        await gateway.publish(3)
        await gateway.control(gateway.subscribed[0], {"op": 9, "d": False})
        await gateway.until(2, 1)
        await gateway.publish(3)
        await found.until_all()
    assert (gateway.resumed, [*gateway.sent]) == ([], ["session-1", "session-2"])
    assert (found.lost, found.gaps) == ([], ["refused"])


async def test_discord_sends_the_last_number_with_each_heartbeat_and_when_it_is_asked():
    gateway = Gateway()
    async with read(gateway, Discord) as found:
        await gateway.until(1, 1)
        await gateway.publish(3)
        await found.until_all()
        await gateway.beaten(4)
    gateway = Gateway()
    gateway.interval = 3_600_000
    async with read(gateway, Discord) as found:
        await gateway.until(1, 1)
        await gateway.publish(2)
        await gateway.control(gateway.subscribed[0], {"op": 1, "d": None})
        await gateway.beaten(3)


@pytest.mark.usefixtures("_impatient")
async def test_a_connection_of_discord_that_answers_no_heartbeat_is_left_and_the_session_resumed():
    gateway = Gateway()
    async with read(gateway, Discord) as found:
        await gateway.until(1, 1)
        await gateway.publish(3)
        gateway.fall_silent(gateway.subscribed[0])
        await gateway.publish(3)
        assert "the feed was silent for" in (await found.until_lost()).why
        await gateway.until(2, 1)
        await found.until_all()
        await gateway.beaten(7)
    assert {session for session, _ in gateway.resumed} == {"session-1"}
    assert found.gaps == []


# -- Twitch ---------------------------------------------------------------------------------------


async def test_twitch_moves_to_the_address_that_it_sent_and_keeps_its_subscriptions():
    twitch = Twitch()
    async with read(twitch, TwitchFeed) as found:
        await twitch.until(1, 1)
        await twitch.publish(3)
        await twitch.end(twitch.subscribed[0])
        await twitch.publish(3)
        await twitch.until(2, 1)
        await twitch.publish(3)
        await found.until_all()
    assert (len(twitch.calls), [*twitch.sessions]) == (1, ["session-1"])
    assert (found.lost, found.gaps) == ([], [])


async def test_a_subscription_that_twitch_revokes_makes_retrying_pointless():
    twitch = Twitch()
    async with read(twitch, TwitchFeed) as found:
        await twitch.until(1, 1)
        await twitch.publish(3)
        await twitch.revoke(twitch.subscribed[0])
        lost = await found.until_lost()
        assert "Twitch revoked a subscription" in lost.why
        assert "authorization_revoked" in lost.why
        assert lost.delay == 600
        assert {*found.ids} == {*twitch.ids}, "nothing that came before is dropped"


@pytest.mark.parametrize("status", ["401 Unauthorized", "403 Forbidden", "400 Bad Request"])
async def test_a_call_that_twitch_refuses_for_good_makes_retrying_pointless(status: str):
    twitch = Twitch()
    twitch.refuses = status
    async with read(twitch, TwitchFeed) as found:
        lost = await found.until_lost()
        assert (f"HTTP {status[:3]}" in lost.why, lost.delay) == (True, 600)


async def test_a_call_that_twitch_cannot_answer_now_is_made_again():
    twitch = Twitch()
    twitch.refuses = "503 Service Unavailable"
    async with read(twitch, TwitchFeed) as found:
        assert (await found.until_lost()).delay < 1
        twitch.refuses = ""
        await twitch.until(1, 1)
        await found.one.until(lambda r: bool(r.of(SourceConnected)))


@pytest.mark.usefixtures("_impatient")
async def test_a_session_of_twitch_that_is_silent_for_longer_than_it_says_is_left_and_declared():
    twitch = Twitch()
    twitch.keepalive = 0.1
    async with read(twitch, TwitchFeed) as found:
        await twitch.until(1, 1)
        await twitch.publish(1)
        assert "the feed was silent for" in (await found.until_lost()).why
        await twitch.until(2, 1)
        await twitch.publish(1)
        await found.until_all()
    assert found.gaps[:1] == ["disconnected"]
    assert len(twitch.calls) > 1, "a new session has no subscriptions"


# -- parts -----------------------------------------------------------------------------------------


async def test_an_old_connection_is_kept_until_what_came_by_it_is_acknowledged():
    """On the new one, the feed does not know what is acknowledged."""
    text = """ack = '{"ack":"{e}"}'\nkeep = { id = "*" }\nid = "id"\nagain = { again = true }"""
    async with serving() as server, opened(source_of(text, server)) as session:
        old = await server.clients.get()
        await old.send('{"e":"E1","id":1}')
        batch = await session.take(10, 10_000)
        assert isinstance(batch, Batch)
        await old.send('{"again":true}')
        new = await server.clients.get()
        await new.send('{"e":"E2","id":2}')
        assert await taken(session) == ["2"]
        await asyncio.wait_for(await old.ping(), 5)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(old.wait_closed(), 0.3)
        await session.settled([receipt for _, receipt in batch.receipts])
        assert await server.heard.get() == '{"ack":"E1"}'
        await asyncio.wait_for(old.wait_closed(), 5)


def test_a_cursor_takes_the_place_of_one_that_stands_in_the_address():
    assert with_query("ws://h/p?a=1&since=3&sig=x%2F", "since", "9 9") == "ws://h/p?a=1&sig=x%2F&since=9%209"


def test_silence_is_counted_only_while_a_connection_is_read():
    signs = Signs(10.0)
    assert signs.silent_for(15.0) == 5.0
    signs.heard(16.0)
    assert signs.silent_for(18.0) == 2.0
    signs.pause(20.0)
    assert signs.silent_for(50.0) == 0.0
    signs.resume(60.0)
    assert signs.silent_for(61.0) == 1.0


class Stopping:
    """A connection with a message after the one that ends it."""

    response = None
    received = 0

    class transport:  # noqa: N801  only its method is used
        abort = staticmethod(lambda: None)

    def __init__(self) -> None:
        self._rest: list[bytes] = [b'{"id":7}']

    async def take(self, most: int, size: int) -> list[bytes]:
        return [b'{"error":"gone"}']

    async def take_rest(self, most: int, size: int) -> list[bytes]:
        rest, self._rest = self._rest, []
        return rest

    async def send(self, message: str) -> None: ...

    async def ping(self) -> Any:
        raise AssertionError("nobody asks")


async def test_what_had_arrived_when_a_feed_was_left_is_read():
    def opens(url: str, options: WebSocketOptions) -> Any:
        return contextlib.nullcontext(Stopping())

    server = Server()
    server.url = "ws://127.0.0.1:9"
    source = source_of('keep = { id = "*" }\nid = "id"\nstop_on = [{ error = "*" }]', server, open_connection=opens)
    async with opened(source) as session:
        assert await taken(session) == ["7"]
        with pytest.raises(SourceEnded, match="pointless"):
            await session.take(1, 1)


async def test_a_feed_that_asks_on_each_connection_for_another_gets_it_from_time_to_time(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(moves, "MOVE_SECONDS", 0.4)
    clock = asyncio.get_running_loop().time
    async with serving() as server, opened(source_of('id = "id"\nagain = { again = true }', server)):
        asked_at: list[float] = []
        for _ in range(4):
            client = await asyncio.wait_for(server.clients.get(), 10)
            asked_at.append(clock())
            await client.send('{"again":true}')
    first, *_, last = asked_at
    assert last - first >= 2 * 0.4, "the first move is made at once"
