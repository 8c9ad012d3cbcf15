"""Listeners while Redis is frozen, emptied, or lost to one of them: events keep flowing, and no handler runs twice."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from toxiproxy import Toxiproxy

from tests.support.frail import Frail
from tests.support.handlers import HOLD, RUNS
from tests.support.law import assert_law, letters_in
from tests.support.listeners import RunningListener, running_listener, until_among
from tests.support.stream import ResumingSource, resuming_source
from tests.support.toxics import toxic_wire
from tests.support.yardstick import Yardstick
from unlost.listener.core.facts import EventsStandBy, EventsStored, PlacesDeclared, StoreUnconfirmed, StoreWentBack
from unlost.ops.system.valkey import ValkeyServer

FLOWS_AGAIN_SECONDS = 3.0


@pytest.fixture
def servers(frail_valkey: Frail[ValkeyServer], database_url: str, tmp_path: Path) -> dict:
    RUNS.forget()
    return {
        "redis_url": frail_valkey.server.url, "database_url": database_url, "directory": tmp_path, "handler": HOLD,
    }  # fmt: skip


def ids(stem: str, count: int) -> list[str]:
    return [f"{stem}{number}" for number in range(count)]


def degraded(one: RunningListener) -> bool:
    declared = one.heard.of(PlacesDeclared)
    return bool(declared) and declared[-1].degraded


class Pair:
    """Two listeners of one group. Both receive every event, and five handlers of each are held."""

    def __init__(self, source: ResumingSource, *listeners: RunningListener) -> None:
        self.source = source
        self.listeners = listeners

    @property
    def stored(self) -> int:
        return sum(len(one.heard.ids(EventsStored)) for one in self.listeners)

    @property
    def seen(self) -> int:
        """How many events have ended at both."""
        return min(one.heard.ended for one in self.listeners)

    @property
    def in_redis_alone(self) -> bool:
        declared = [one.heard.of(PlacesDeclared)[-1] for one in self.listeners]
        return all(len(one.places) == 1 and not one.degraded for one in declared)

    async def until(self, holds, seconds: float = 20) -> None:
        await until_among(self.listeners, holds, seconds)

    async def hold_five(self) -> None:
        await self.source.publish(*ids("before", 10), *ids("held", 5))
        await self.until(lambda: self.stored == 10 and len(RUNS.begun) == 15)
        await self.until(lambda: sum(len(set(one.heard.ids(EventsStandBy)) & set(HELD)) for one in self.listeners) == 5)


HELD = ids("held", 5)


@contextlib.asynccontextmanager
async def pair(servers: dict, first_redis: str | None = None) -> AsyncIterator[Pair]:
    async with (
        resuming_source() as source,
        running_listener(ws_url=source.url, **{**servers, "redis_url": first_redis or servers["redis_url"]}) as one,
        running_listener(ws_url=source.url, **servers, instance_id="b") as two,
    ):
        both = Pair(source, one, two)
        await both.hold_five()
        yield both
    await assert_law(servers["database_url"], servers["directory"], source.event_ids)
    assert letters_in(servers["directory"]) == []
    assert sorted(RUNS.begun) == sorted(set(source.event_ids)), (
        "a handler ran twice, though no owner was killed or frozen"
    )


async def test_frozen_it_stops_nothing_for_long_and_is_used_again_when_it_wakes(
    servers: dict, frail_valkey: Frail[ValkeyServer]
):
    async with pair(servers) as both:
        async with Yardstick(servers["database_url"]) as yardstick:
            await frail_valkey.freeze()
            await both.source.publish(*ids("during", 50))
            await both.until(lambda: both.stored == 60)
            assert yardstick.seconds < FLOWS_AGAIN_SECONDS
        RUNS.go_on.set()
        await both.until(lambda: both.stored == 65)
        assert all(map(degraded, both.listeners))
        await frail_valkey.thaw()
        await both.until(lambda: both.in_redis_alone)
        await both.source.publish(*ids("after", 10))
        await both.until(lambda: both.seen == 75)


async def test_emptied_it_has_nothing_run_again(servers: dict, frail_valkey: Frail[ValkeyServer]):
    async with pair(servers) as both:
        places = [one.heard.of(PlacesDeclared)[-1].places for one in both.listeners]
        frail_valkey.server.flush()
        await both.source.publish(*ids("during", 50), *ids("before", 10), *ids("held", 5))
        await both.until(lambda: both.stored == 60)
        for one, before in zip(both.listeners, places, strict=True):
            await one.heard.until(lambda h, before=before: h.of(PlacesDeclared)[-1].places != before)  # type: ignore[misc]
        RUNS.go_on.set()
        await both.until(lambda: both.stored == 65 and both.seen == 80)


@pytest.mark.parametrize("harm", ["refused", "silent"])
async def test_lost_to_one_listener_alone_it_has_nothing_run_twice(servers: dict, fault_proxies: Toxiproxy, harm: str):
    async with toxic_wire(fault_proxies, servers["redis_url"]) as wire, pair(servers, wire.url) as both:
        one, two = both.listeners
        async with Yardstick(servers["database_url"]) as yardstick:
            await (wire.refuse() if harm == "refused" else wire.add("timeout", "upstream", "downstream", timeout=0))
            await both.source.publish(*ids("during", 50))
            await both.until(lambda: both.stored == 60)
            assert yardstick.seconds < FLOWS_AGAIN_SECONDS
        await one.heard.until(lambda _: degraded(one))
        await both.source.publish(*ids("later", 50))
        await both.until(lambda: both.stored == 110)
        assert not degraded(two), "the one that still has Redis keeps claims in both places"
        RUNS.go_on.set()
        await both.until(lambda: both.stored == 115)
        await wire.heal()
        await both.until(lambda: both.in_redis_alone)
        await both.source.publish(*ids("after", 10))
        await both.until(lambda: both.seen == 125)


async def test_a_listener_that_starts_without_it_does_not_say_that_postgresql_went_back(
    servers: dict, frail_valkey: Frail[ValkeyServer]
):
    async with (
        resuming_source() as source,
        running_listener(ws_url=source.url, **servers) as one,
    ):
        await source.publish(*ids("before", 10))
        await one.heard.until(lambda heard: len(heard.ids(EventsStored)) == 10)
        await frail_valkey.freeze()
        await one.heard.until(lambda _: degraded(one))
        async with running_listener(ws_url=source.url, **servers, instance_id="b") as two:
            both = Pair(source, one, two)
            await one.heard.until(lambda heard: heard.of(StoreUnconfirmed) != [])
            await source.publish(*ids("during", 10))
            await both.until(lambda: both.stored == 20)
            await frail_valkey.thaw()
            await both.until(lambda: both.in_redis_alone)
            await source.publish(*ids("after", 10))
            await both.until(lambda: both.stored == 30)
            assert [fact for each in (one, two) for fact in each.heard.of(StoreWentBack)] == []
    await assert_law(servers["database_url"], servers["directory"], source.event_ids)
    assert letters_in(servers["directory"]) == []
    assert sorted(RUNS.begun) == sorted(source.event_ids)
