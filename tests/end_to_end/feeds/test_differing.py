"""A feed that numbers its events for each connection anew, read with hashes as ids: the listeners say so."""

import asyncio
import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection

from tests.support.feeds.feed import StandIn, running
from tests.support.listeners import rows_of, running_listener, until_among
from unlost.listener.app import difference
from unlost.listener.core.facts import EventsDiffer, EventsStored, Facts
from unlost.listener.observe.differing import Differing

LOOKS = 6
"""Of both listeners; two in a row would be enough for one of them."""


class Sequenced(StandIn):
    """Its envelope has a number of the connection, if asked for."""

    source = "sequenced"

    def __init__(self, *, differs: bool) -> None:
        super().__init__()
        self._differs = differs

    def message(self, number: int, client: ServerConnection) -> str:
        return json.dumps({"n": number, "seq": f"{id(client)}:{number}" if self._differs else number})

    def event_id(self, number: int) -> str:
        return str(number)


@pytest.mark.parametrize("differs", [True, False])
async def test_two_listeners_notice_that_events_differ(
    differs: bool, redis_url: str, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(difference, "LOOK_SECONDS", 1.0)
    looked, looks = asyncio.Event(), []
    judge = Differing.judge

    def judged(self: Differing, of_peers: int, facts: Facts) -> None:
        looks.append(of_peers)
        if len(looks) == LOOKS:
            looked.set()
        judge(self, of_peers, facts)

    monkeypatch.setattr(Differing, "judge", judged)
    servers: dict[str, Any] = {"redis_url": redis_url, "database_url": database_url, "directory": tmp_path}
    async with contextlib.AsyncExitStack() as stack:
        feed = await stack.enter_async_context(running(Sequenced(differs=differs)))
        profile = tmp_path / "sequenced.toml"
        profile.write_text(f'url = "{feed.url}"\nid = "sha256"\n')
        both = [
            await stack.enter_async_context(
                running_listener(ws_url="ws://127.0.0.1:9/", source=str(profile), instance_id=name, **servers)
            )
            for name in "ab"
        ]
        await feed.until(2, 2)

        def said() -> bool:
            return any(one.heard.of(EventsDiffer) for one in both)

        stop = asyncio.Event()

        async def publish() -> None:
            while not stop.is_set():
                await feed.publish(100)
                await asyncio.sleep(0.1)

        publishing = asyncio.create_task(publish())
        if differs:
            await until_among(both, said)
            remarks = [*both[0].daemon.health().remarks, *both[1].daemon.health().remarks]
            assert "map an id, or a payload without what differs" in remarks[0]
        else:
            await asyncio.wait_for(looked.wait(), 20)
        stop.set()
        await publishing
        copies = 2 if differs else 1

        def ended() -> int:
            return sum(len(one.heard.ids(EventsStored)) for one in both)

        await until_among(both, lambda: ended() == copies * feed.published)
        assert said() is differs
    assert len(await rows_of(database_url)) == copies * feed.published
