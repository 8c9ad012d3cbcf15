"""A feed that is acknowledged on receipt sends nothing again: what memory holds at the end must not vanish."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection

from tests.end_to_end.feeds.test_backfill import gaps_of
from tests.end_to_end.feeds.test_commands import run
from tests.end_to_end.feeds.test_gaps_over_restarts import gaps, kept
from tests.support.feeds.feed import StandIn, running
from tests.support.listeners import rows_of, running_listener
from unlost.listener.core.facts import EventsStored, SourceGap

COUNT = 60
PROFILE = """
url = "{feed}"
keep = {{ type = "match" }}
id = "n"
ack = {{ send = '{{"ack":{{n}}}}', at_once = true }}
"""


class Once(StandIn):
    """Keeps each event until it is acknowledged."""

    source = "once"

    def __init__(self) -> None:
        super().__init__()
        self.acknowledged: set[int] = set()

    async def talk(self, client: ServerConnection) -> None:
        await self.subscribe(client)
        async for message in client:
            async with self.changed:
                self.acknowledged.add(json.loads(message)["ack"])
                self.changed.notify_all()

    async def until_acknowledged(self) -> None:
        async with self.changed:
            await asyncio.wait_for(self.changed.wait_for(lambda: len(self.acknowledged) == self.published), 15)

    def message(self, number: int, client: ServerConnection) -> str:
        return json.dumps({"type": "match", "n": number})

    def event_id(self, number: int) -> str:
        return str(number)


async def slow(_: object) -> None:
    await asyncio.sleep(0.5)


def describe(feed: Once, servers: dict[str, Any]) -> None:
    Path(servers["source"]).write_text(PROFILE.format(feed=feed.url))


def letters_in(directory: Path) -> Iterator[tuple[str, str]]:
    for file in directory.glob("*.jsonl"):
        for line in file.read_text().splitlines():
            letter = json.loads(line)
            yield letter["event_id"], letter["reason"]


@pytest.fixture
def servers(redis_url: str, database_url: str, tmp_path: Path) -> dict[str, Any]:
    return {
        "ws_url": "ws://127.0.0.1:9/", "redis_url": redis_url, "database_url": database_url, "directory": tmp_path,
        "source": str(tmp_path / "once.toml"), "handler": f"{__name__}:slow", "handle_concurrency": "4", "lease": "2",
    }  # fmt: skip


async def test_a_stop_stores_what_was_acknowledged_or_makes_letters_of_it(servers: dict[str, Any], tmp_path: Path):
    async with running(Once()) as feed:
        describe(feed, servers)
        async with running_listener(**servers, shutdown_timeout="2") as listener:
            await feed.until(1, 1)
            await feed.publish(COUNT)
            await feed.until_acknowledged()
            await listener.heard.until(lambda heard: len(heard.ids(EventsStored)) >= 4)
            await listener.stop()
    rows = [row["event_id"] for row in await rows_of(servers["database_url"])]
    letters = dict(letters_in(tmp_path))
    assert set(letters.values()) == {"stopped"}
    assert sorted([*rows, *letters]) == feed.ids


async def test_what_was_acknowledged_and_died_with_the_listener_is_a_declared_gap(servers: dict[str, Any]):
    async with running(Once()) as feed:
        describe(feed, servers)
        async with running_listener(**servers) as listener:
            await feed.until(1, 1)
            await kept(servers["database_url"])
            await feed.publish(COUNT)
            await feed.until_acknowledged()
            await listener.crash()
        async with running_listener(**servers) as listener:
            await listener.heard.until(lambda heard: bool(heard.of(SourceGap)))
            assert gaps(listener) == [("disconnected", None, None, None)]
    assert len(await gaps_of(servers["database_url"])) == 1


@pytest.mark.parametrize("at_once", ["true", "false"])
async def test_a_trial_takes_nothing_from_a_group_that_acknowledges(tmp_path: Path, at_once: str):
    profile = tmp_path / "once.toml"
    async with running(Once()) as feed:
        profile.write_text(PROFILE.format(feed=feed.url).replace("at_once = true", f"at_once = {at_once}"))
        trying = asyncio.create_task(asyncio.to_thread(run, "try", str(profile), "--seconds", "1.5"))
        await feed.until(1, 1)
        await feed.publish(2)
        for client in feed.subscribed:
            await feed.control(client, {"type": "hello", "n": 99})
        output = (await trying).output
    assert [line.split()[1] for line in output.splitlines() if line.startswith("ack ")] == [
        '{"ack":0}', '{"ack":1}', '{"ack":99}'
    ]  # fmt: skip
    assert feed.acknowledged == set()
