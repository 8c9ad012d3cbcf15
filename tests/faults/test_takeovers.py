"""Events of a dead owner are taken over by halves, so that the one that kills condemns only itself."""

import asyncio
import contextlib
import time
from pathlib import Path

import pytest

from tests.support.handlers import HOLD, RUNS
from tests.support.law import assert_law
from tests.support.listeners import running_listener
from tests.support.stream import resuming_source
from unlost.listener.core.delivery import Delivery
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


SLOW: list[tuple[str, float, float]] = []
"""Each run of ``take_a_second``: the event, and when it began and ended."""
INNOCENT = [f"innocent{number}" for number in range(10)]


async def take_a_second(event: Delivery) -> None:
    began = time.monotonic()
    RUNS.begin(event.event_id)
    await asyncio.sleep(1.0)
    SLOW.append((event.event_id, began, time.monotonic()))


async def test_ten_innocent_suspects_of_a_slow_handler_run_in_two_groups(servers: dict):
    servers["handler"] = f"{__name__}:take_a_second"
    async with resuming_source() as source, contextlib.AsyncExitStack() as stack:
        await source.publish(*INNOCENT)  # before anybody reads, so that they are claimed together and lapse together
        one = await stack.enter_async_context(running_listener(ws_url=source.url, **servers))
        await one.heard.until(lambda _: len(RUNS.begun) == len(INNOCENT))
        await one.crash()
        SLOW.clear()
        async with running_listener(ws_url=source.url, **servers, instance_id="b") as two:
            await two.heard.until(lambda h: bool(h.ids(EventsTakenOver)))
            began = time.monotonic()
            await two.heard.until(lambda h: len(h.ids(EventsStored)) == len(INNOCENT))
            took = time.monotonic() - began
    ends = sorted(ended for _, _, ended in SLOW)
    assert sum(began > ends[4] for _, began, _ in SLOW) == 5, "the second half began when the first had ended"
    slowest = max(ended - began for _, began, ended in SLOW)
    assert took <= 3 * slowest, "3 s, where a handler that sleeps for a second takes a second"
    await assert_law(servers["database_url"], servers["directory"], source.event_ids)
