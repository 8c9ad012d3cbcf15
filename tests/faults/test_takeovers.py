"""Events of a dead owner are taken over one at a time, so that the one that kills condemns only itself."""

from pathlib import Path

import pytest

from tests.support.handlers import HOLD, RUNS
from tests.support.law import assert_law
from tests.support.listeners import running_listener
from tests.support.stream import resuming_source
from unlost.listener.core.facts import EventsClaimed, EventsStored, EventsTakenOver

HELD = [f"held{number}" for number in range(4)]


@pytest.fixture
def servers(redis_url: str, database_url: str, tmp_path: Path) -> dict:
    RUNS.forget()
    return {"redis_url": redis_url, "database_url": database_url, "directory": tmp_path, "handler": HOLD, "lease": "1"}


async def test_no_further_suspect_is_claimed_while_half_of_them_are_at_work(servers: dict):
    async with resuming_source() as source, running_listener(ws_url=source.url, **servers) as one:
        await source.publish(*HELD)
        await one.heard.until(lambda _: len(RUNS.begun) == 4)
        await one.crash()
        async with running_listener(ws_url=source.url, **servers, instance_id="b") as two:
            await two.heard.until(lambda h: len(h.ids(EventsTakenOver)) == 2)
            await source.publish("fresh")
            await two.heard.until(lambda h: "fresh" in h.ids(EventsClaimed))
            assert len(two.heard.ids(EventsTakenOver)) == 2, (
                "if this owner were killed now, an innocent event would suffer"
            )
            assert len(RUNS.begun) == 6
            RUNS.go_on.set()
            await two.heard.until(lambda h: len(h.ids(EventsStored)) == 5)
    await assert_law(servers["database_url"], servers["directory"], source.event_ids)
