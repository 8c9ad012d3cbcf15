"""``unlost source``: what is shipped, what a profile says, and what a feed's messages become."""

import asyncio
import socket
from collections.abc import Iterable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.support.feeds.feed import running
from tests.support.feeds.history import answer, history
from tests.support.feeds.markets import CoinbaseExchange, Kraken
from unlost.feeds import Action, Feed, Opening
from unlost.listener.app.feeds import names
from unlost.listener.app.source_commands import source
from unlost.testing import TestFeed


class Mine(Feed):
    """A class that a user wrote."""

    async def opening(self, after: str | None) -> Opening:
        return Opening(url="ws://127.0.0.1:9/")

    def read(self, message: bytes) -> Iterable[Action]:
        return ()


def run(*words: str) -> Result:
    return CliRunner().invoke(source, list(words))


def test_list_and_show():
    listed = run("list")
    assert [line.split()[0] for line in listed.output.splitlines()] == names()
    assert "Slack" in listed.output
    shown = run("show", "slack")
    assert 'Authorization = "Bearer ${SLACK_APP_TOKEN}"' in shown.output
    for name, variable in (("twitch", "TWITCH_SUBSCRIPTIONS"), ("discord", "DISCORD_INTENTS")):
        code = run("show", name)
        assert code.exit_code == 0
        assert f"class {name.capitalize()} in " in code.output.splitlines()[0]
        assert variable in code.output.partition('"""\n\nimport')[0]
        assert "async def opening(self, after: str | None) -> Opening:" in code.output
        compile(code.output, name, "exec")
    assert "class Mine(Feed)" in run("show", "tests.end_to_end.feeds.test_commands:Mine").output
    assert run("show", "json:dumps").exit_code == 2
    nowhere = run("show", "nowhere.toml")
    assert (nowhere.exit_code, "Shipped profiles" in nowhere.output) == (2, True)
    missing = run("try", "slack")
    assert (missing.exit_code, "SLACK_APP_TOKEN is not set" in missing.output) == (2, True)


async def test_try_shows_what_messages_become_and_records_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    record = tmp_path / "kraken.jsonl"
    words = ("try", "kraken", "--seconds", "1.5", "--record", str(record))
    async with running(Kraken()) as feed:
        monkeypatch.setenv("KRAKEN_URL", f"{feed.url}/v2")
        trying = asyncio.create_task(asyncio.to_thread(run, *words))
        await feed.until(1, 1)
        await feed.publish(20)
        result = await trying
    assert result.exit_code == 0, result.output
    assert "event     BTC/USD:4665846  trade" in result.output
    assert 'control   {"channel": "status"' in result.output
    assert "types: 30 trade" in result.output
    assert sum(line.startswith("event ") for line in result.output.splitlines()) == 30
    assert "not shown" not in result.output
    assert "warning: 10 of 30 ids came again" in result.output
    again = TestFeed("kraken")
    again.read_recording(record)
    assert (again.counts["event"], again.counts["control"] > 1) == (30, True)
    assert record.stat().st_mode & 0o777 == 0o600


async def test_try_says_how_much_it_does_not_show(monkeypatch: pytest.MonkeyPatch):
    async with running(Kraken()) as feed:
        monkeypatch.setenv("KRAKEN_URL", f"{feed.url}/v2")
        trying = asyncio.create_task(asyncio.to_thread(run, "try", "kraken", "--seconds", "1.5", "--show", "7"))
        await feed.until(1, 1)
        await feed.publish(20)
        lines = (await trying).output.splitlines()
    shown = [line for line in lines if line.split()[0:1] and line.split()[0] in ("event", "control", "sent")]
    assert len(shown) == 7
    assert sum(line.startswith("…") for line in lines) == 1
    (said,) = [line for line in lines if line.startswith("not shown: ")]
    counts = next(line for line in lines if " messages in " in line).partition(": ")[2]
    assert int(said.split()[2]) == sum(int(one.split()[0]) for one in counts.split(", ")) - 7


def test_a_recording_that_cannot_be_written_is_one_sentence(tmp_path: Path):
    result = run("try", "kraken", "--record", str(tmp_path / "nowhere" / "kraken.jsonl"))
    assert result.exit_code == 2
    assert "kraken.jsonl cannot be written: [Errno 2] No such file or directory" in result.output


async def test_try_makes_the_first_call_of_a_backfill(tmp_path: Path):
    profile = tmp_path / "kraken.toml"
    async with running(Kraken()) as feed, history(lambda query: [{"trade_id": int(query["first"])}]) as server:
        text = run("show", "kraken").output.replace("${KRAKEN_URL:-wss://ws.kraken.com/v2}", f"{feed.url}/v2")
        text += f"""[backfill]\nurl = "{server.url}/trades?first={{first}}&by={{by}}"\neach = "[*]"
type = "=trade"\nid = "{{gap.by}}:{{trade_id}}\""""
        profile.write_text(text)
        for answers, code, shown in (
            ([], 0, "backfill  1 event, 1 with the id of one that was just read"),
            ([answer({}, "401 Unauthorized")], 1, "warning: backfill: "),
        ):
            server.first.extend(answers)
            connections = feed.connections
            trying = asyncio.create_task(asyncio.to_thread(run, "try", str(profile), "--seconds", "1.5"))
            await feed.until(connections + 1, 1)
            await feed.publish(20)
            result = await trying
            assert (result.exit_code, shown in result.output) == (code, True), result.output
    assert "answered HTTP 401" in result.output


async def test_try_says_why_a_feed_will_not_have_us(monkeypatch: pytest.MonkeyPatch):
    async with running(CoinbaseExchange()) as feed:
        monkeypatch.setenv("COINBASE_URL", feed.url)
        monkeypatch.setenv("COINBASE_API_URL", "http://127.0.0.1:9")
        monkeypatch.setattr("tests.support.feeds.markets.SUBSCRIBE_WITHIN", 0.0)
        result = await asyncio.to_thread(run, "try", "coinbase-exchange", "--seconds", "0.5")
    assert result.exit_code == 1
    assert "ended" in result.output
    assert "warning: the feed sent nothing" in result.output


def test_try_says_where_nobody_answers(monkeypatch: pytest.MonkeyPatch):
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        monkeypatch.setenv("KRAKEN_URL", f"ws://127.0.0.1:{port}/v2?token=sesame-token")
        result = run("try", "kraken", "--seconds", "0.5")
    assert result.exit_code == 1
    assert f"ended     ws://127.0.0.1:{port}: " in result.output
    assert "warning: no connection was made; the reason stands above" in result.output
    assert "subscription" not in result.output
    assert "sesame" not in result.output
