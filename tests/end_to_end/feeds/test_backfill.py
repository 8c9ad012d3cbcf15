"""Events that a gap has missed are fetched, and each ends as one row: on real servers, with listeners that die."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from websockets.asyncio.server import ServerConnection

from tests.support.feeds.feed import StandIn, running
from tests.support.feeds.history import CoinbaseTrades, History, answer, history, numbers
from tests.support.feeds.markets import CoinbaseExchange
from tests.support.listeners import RunningListener, rows_of, running_listener, until_among
from unlost.listener.core.backoff import FullJitter
from unlost.listener.core.facts import EventBuried, EventsStored, GapFetched, SourceGap
from unlost.listener.source import backfilling
from unlost.listener.store.postgres.reports import DeclaredGap, Reports

NO_STREAM: dict[str, Any] = {"ws_url": "ws://127.0.0.1:9/"}
PROFILE = """
url = "{feed}"
keep = {{ type = "match" }}
id = "{{product}}:{{n}}"
sequence = {{ by = "product", at = "n" }}
[backfill]
url = "{api}/trades?by={{by}}&first={{first}}&last={{last}}&next={{next}}"
each = "trades[*]"
id = "{{gap.by}}:{{n}}"
next = "next"
every = 0.01
after = 0.05
tries = 4
"""


class Trades(StandIn):
    """Sends what it is asked to send, and skips what it is asked to skip."""

    source = "trades"

    def message(self, number: int, client: ServerConnection) -> str:
        return json.dumps({"type": "match", "product": "BTC", "n": number, "price": "1.50"})

    def event_id(self, number: int) -> str:
        return f"BTC:{number}"

    def skip(self, count: int) -> None:
        """Number events that nobody receives."""
        self.published += count


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backfilling, "BACKOFF", FullJitter(first=0.01, longest=0.05))
    monkeypatch.setattr(backfilling, "LOOK_SECONDS", 0.05)


@contextlib.asynccontextmanager
async def surroundings(tmp_path: Path, size: int = 4) -> AsyncIterator[tuple[Trades, History, str]]:
    async with running(Trades()) as feed, history(numbers({"BTC": 1_000_000}, size)) as server:
        profile = tmp_path / "trades.toml"
        profile.write_text(PROFILE.format(feed=feed.url, api=server.url))
        yield feed, server, str(profile)


async def gaps_of(database_url: str) -> list[DeclaredGap]:
    connection = await asyncpg.connect(database_url)
    try:
        return await Reports(connection).gaps(100)
    finally:
        await connection.close()


def outcomes(listeners: list[RunningListener]) -> list[GapFetched]:
    return [fact for one in listeners for fact in one.heard.of(GapFetched) if fact.outcome is not None]


async def test_two_listeners_fetch_what_both_missed_once_although_the_server_misbehaves_first(
    redis_url: str, database_url: str, tmp_path: Path
):
    servers = {**NO_STREAM, "redis_url": redis_url, "database_url": database_url, "directory": tmp_path}
    async with contextlib.AsyncExitStack() as stack:
        feed, server, profile = await stack.enter_async_context(surroundings(tmp_path))
        server.first.extend([answer({}, "429 Too Many", "Retry-After: 0"), answer(b"<html>")])
        both = [
            await stack.enter_async_context(running_listener(**servers, source=profile, instance_id=name))
            for name in "ab"
        ]
        await feed.until(2, 2)
        await feed.publish(5)
        feed.skip(10)
        await feed.publish(5)
        await until_among(both, lambda: len(outcomes(both)) == 2)
        assert [one.heard.of(EventBuried) for one in both] == [[], []]
        found = await gaps_of(database_url)
        stored = sum(len(one.heard.ids(EventsStored)) for one in both)
    assert stored == 20, "each event once, although two listeners declared the gap"
    assert [row["event_id"] for row in await rows_of(database_url)] == sorted(f"BTC:{number}" for number in range(20))
    assert sorted((gap.how, gap.missing, gap.outcome) for gap in found) == [("sequence", 10, "filled")] * 2
    assert sum(gap.backfilled for gap in found) >= 10
    assert sum(gap.fetches for gap in found) == 4, "two tries met a server that misbehaved"


async def test_backfill_skips_stored_events_and_records_why_a_fetch_failed(
    redis_url: str, database_url: str, tmp_path: Path
):
    """The server returns everything that it has, in other words than the feed; it then refuses the next gap."""
    servers = {**NO_STREAM, "redis_url": redis_url, "database_url": database_url, "directory": tmp_path}
    async with surroundings(tmp_path) as (feed, server, profile):
        server.page = lambda _: {"trades": [{"n": number, "other": "words"} for number in range(7)]}
        async with running_listener(**servers, source=profile) as listener:
            await feed.until(1, 1)
            await feed.publish(3)
            feed.skip(1)
            await feed.publish(3)
            await listener.heard.until(lambda heard: len(heard.of(GapFetched)) == 1)
            server.first.append(answer({"error": "no such product"}, "404 Not Found"))
            feed.skip(2)
            await feed.publish(1)
            await listener.heard.until(lambda heard: len(heard.of(GapFetched)) == 2)
            assert listener.heard.of(EventBuried) == []
    rows = {row["event_id"]: json.loads(row["payload"]) for row in await rows_of(database_url)}
    assert sorted(rows) == [f"BTC:{number}" for number in (0, 1, 2, 3, 4, 5, 6, 9)]
    assert [number for number in range(7) if "other" in rows[f"BTC:{number}"]] == [3]
    last, first = await gaps_of(database_url)
    assert (first.outcome, first.backfilled, first.missing) == ("filled", 1, 1)
    assert (last.outcome, last.backfilled, last.missing) == ("failed", 0, 2)
    assert "answered HTTP 404" in last.why
    assert "no such product" in last.why


async def test_a_listener_that_dies_while_fetching_leaves_the_gap_to_the_next_one(
    redis_url: str, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(backfilling, "LEASE_SECONDS", 1.0)
    servers = {**NO_STREAM, "redis_url": redis_url, "database_url": database_url, "directory": tmp_path}
    async with surroundings(tmp_path, size=3) as (feed, server, profile):
        second_page, page = asyncio.Event(), server.page

        def asked(query: dict[str, str]) -> object:
            if query.get("next"):
                second_page.set()
            return page(query)

        server.page = asked
        async with running_listener(**servers, source=profile) as listener:
            await feed.until(1, 1)
            await feed.publish(2)
            feed.skip(40)
            await feed.publish(2)
            await asyncio.wait_for(second_page.wait(), 20)
            assert listener.heard.of(SourceGap)
            await listener.crash()
        async with running_listener(**servers, source=profile, instance_id="b") as listener:
            await listener.heard.until(lambda heard: len(heard.of(GapFetched)) == 1, 30)
    (gap,) = await gaps_of(database_url)
    assert (gap.outcome, gap.fetches) == ("filled", 2)
    ids = sorted(f"BTC:{number}" for number in range(44))
    assert [row["event_id"] for row in await rows_of(database_url)] == ids


async def test_a_server_that_never_answers_well_is_given_up_after_so_many_tries(
    redis_url: str, database_url: str, tmp_path: Path
):
    servers = {**NO_STREAM, "redis_url": redis_url, "database_url": database_url, "directory": tmp_path}
    async with surroundings(tmp_path) as (feed, server, profile):
        server.first.extend([answer({}, "503 Busy")] * 10)
        async with running_listener(**servers, source=profile) as listener:
            await feed.until(1, 1)
            await feed.publish(2)
            feed.skip(3)
            await feed.publish(2)
            await listener.heard.until(lambda heard: any(one.outcome for one in heard.of(GapFetched)))
            found = [(one.outcome, one.tries, one.found) for one in listener.heard.of(GapFetched)]
        assert found == [(None, 1, 0), (None, 2, 0), (None, 3, 0), ("failed", 4, 0)]
        assert len(server.asked) == 4
    (gap,) = await gaps_of(database_url)
    assert gap.why.startswith("after 4 tries: ")
    assert "answered HTTP 503" in gap.why


async def test_a_gap_whose_numbers_are_not_all_answered_is_tried_again_and_is_partly_filled_at_last(
    redis_url: str, database_url: str, tmp_path: Path
):
    """First the server knows none of them, then one; it is never filled in silence."""
    servers = {**NO_STREAM, "redis_url": redis_url, "database_url": database_url, "directory": tmp_path}
    async with surroundings(tmp_path) as (feed, server, profile):
        answers: Iterator[Any] = iter([{"trades": []}, {"trades": []}])
        server.page = lambda _: next(answers, {"trades": [{"n": 3, "price": "1.50"}]})
        async with running_listener(**servers, source=profile) as listener:
            await feed.until(1, 1)
            await feed.publish(2)
            feed.skip(3)
            await feed.publish(2)
            await listener.heard.until(lambda heard: any(one.outcome for one in heard.of(GapFetched)))
            found = [(one.outcome, one.tries, one.found) for one in listener.heard.of(GapFetched)]
    assert found == [(None, 1, 0), (None, 2, 0), (None, 3, 1), ("partly", 4, 0)]
    (gap,) = await gaps_of(database_url)
    assert (gap.outcome, gap.backfilled, gap.missing) == ("partly", 1, 3)
    assert gap.why == "after 4 tries: of 3 missing events, the answers have 1"


async def test_trades_that_coinbase_did_not_send_are_fetched_page_by_page_and_no_further(
    redis_url: str, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    servers = {**NO_STREAM, "redis_url": redis_url, "database_url": database_url, "directory": tmp_path}
    trades = CoinbaseTrades("BTC-USD")
    async with running(CoinbaseExchange()) as feed, history(trades) as server:
        for name, value in {**feed.environment(), "COINBASE_API_URL": server.url}.items():
            monkeypatch.setenv(name, value)
        async with running_listener(**servers, source="coinbase-exchange") as listener:
            await feed.until(1, 1)
            await feed.publish(3)
            feed.published += 1_500
            trades.newest = 1000 + feed.published
            await feed.publish(3)
            await listener.heard.until(lambda heard: len(heard.of(GapFetched)) == 1, 60)
            (fetched,) = listener.heard.of(GapFetched)
            assert listener.heard.of(EventBuried) == []
    assert (fetched.outcome, fetched.found) == ("filled", 1_500), "the second page has older trades, too"
    assert [one["after"] for one in server.asked] == ["2503", "1503"]
    rows = {row["event_id"]: row for row in await rows_of(database_url)}
    assert {f"BTC-USD:{1000 + number}" for number in range(feed.published)} == set(rows)
    assert {row["type"] for row in rows.values()} == {"match"}


async def test_a_gap_that_has_ended_as_many_listeners_as_it_may_have_tries_is_given_up(
    redis_url: str, database_url: str, tmp_path: Path
):
    servers = {**NO_STREAM, "redis_url": redis_url, "database_url": database_url, "directory": tmp_path}
    async with surroundings(tmp_path) as (feed, server, profile):
        async with running_listener(**servers, source=profile) as listener:
            await feed.until(1, 1)
            await feed.publish(2)
            feed.skip(3)
            server.first.append(answer({}, "503 Busy", "Retry-After: 600"))
            await feed.publish(1)
            await listener.heard.until(lambda heard: len(heard.of(GapFetched)) == 1)
        connection = await asyncpg.connect(database_url)
        await connection.execute("UPDATE unlost.gaps SET fetches = 4, fetch_at = now()")
        await connection.close()
        async with running_listener(**servers, source=profile) as listener:
            await listener.heard.until(lambda heard: len(heard.of(GapFetched)) == 1)
            (given_up,) = listener.heard.of(GapFetched)
    assert (given_up.outcome, given_up.tries, given_up.why) == ("failed", 5, "4 tries had no end")
    assert len(server.asked) == 1
