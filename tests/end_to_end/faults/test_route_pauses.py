"""Routes that pause at one of two listeners: what waited there is processed by the other."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.end_to_end.faults.conftest import frames
from tests.support.handlers import HERE, NEEDS_B, RUNS
from tests.support.listeners import RunningListener, rows_of, running_listener
from tests.support.source import running_source
from unlost.listener.core.facts import EventBuried, EventsStored, RoutePaused, SourceConnected

COUNT = 30


@pytest.fixture(autouse=True)
def _no_runs() -> None:
    RUNS.forget()


@contextlib.asynccontextmanager
async def listener(name: str, **settings: Any) -> AsyncIterator[RunningListener]:
    """A listener whose handler knows where it runs."""
    token = HERE.set(name)
    async with running_listener(instance_id=name, handler=NEEDS_B, **settings) as one:
        HERE.reset(token)
        await one.heard.until(lambda h: bool(h.of(SourceConnected)))
        yield one


async def test_a_listener_that_lacks_what_its_handler_needs_leaves_its_events_to_a_peer(servers: dict):
    same = {**servers, "handle_attempts": "3", "handle_delay": "0.4"}
    async with (
        running_source() as source,
        listener("a", ws_url=source.url, **same) as one,
        listener("b", ws_url=source.url, **same, handle_concurrency="1") as peer,
    ):
        await source.wait_for_clients(2)
        await source.send(*frames("e", COUNT))
        await one.heard.until(lambda h: bool(h.of(RoutePaused)))
        RUNS.go_on.set()
        await peer.heard.until(lambda h: len(h.ids(EventsStored)) == COUNT)
        assert not one.heard.of(EventBuried)
        async with asyncio.timeout(20):
            while one.daemon.health().facts["routes_paused"]:  # noqa: ASYNC110  health is polled by everybody
                await asyncio.sleep(0.05)
    rows = await rows_of(servers["database_url"])
    assert {(row["event_id"], row["instance_id"]) for row in rows} == {(f"e{n}", "b") for n in range(COUNT)}
