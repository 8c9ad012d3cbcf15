"""Every connection of a listener with every fault: the law holds, nothing runs twice, and the listener recovers.

One listener reads a source that can resume, with claims in Redis and rows in PostgreSQL, each behind a fault proxy.
Before the fault some events are stored and some are in their handlers. More arrive during it and after it.
"""

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest
from redis.asyncio import Redis
from toxiproxy import Toxiproxy

from tests.support.handlers import HOLD, HOLD_IN_TRANSACTION, RUNS
from tests.support.law import assert_law, letters_in
from tests.support.listeners import Heard, RunningListener, running_listener
from tests.support.stream import ResumingSource, resuming_source
from tests.support.toxics import ToxicWire, toxic_wire
from tests.support.yardstick import Yardstick
from unlost.listener.core.facts import (
    AttemptFailed,
    BreakerChanged,
    EventsStored,
    PlacesDeclared,
    SourceConnected,
    SourceLost,
    StoringPaused,
)

FLOWS_AGAIN_SECONDS = 3.0
BOTH = ("upstream", "downstream")
HELD = [f"held{number}" for number in range(5)]


@dataclass
class World:
    """A running listener, its source, and the connections to damage."""

    listener: RunningListener
    source: ResumingSource
    wires: dict[str, ToxicWire]
    redis_url: str
    database_url: str

    async def publish(self, stem: str, count: int) -> list[str]:
        event_ids = [f"{stem}{number}" for number in range(count)]
        await self.source.publish(*event_ids)
        return event_ids

    async def stored(self, event_ids: list[str], seconds: float = 20) -> None:
        await self.heard.until(lambda h: set(event_ids) <= set(h.ids(EventsStored)), seconds)

    @property
    def heard(self) -> Heard:
        return self.listener.heard


Harm = Callable[[World, str], Awaitable[object]]


async def refused(world: World, wire: str) -> None:
    await world.wires[wire].refuse()


async def reset(world: World, wire: str) -> None:
    await world.wires[wire].add("reset_peer", timeout=0)


async def silent(world: World, wire: str) -> None:
    await world.wires[wire].add("timeout", *BOTH, timeout=0)


async def slow(world: World, wire: str) -> None:
    await world.wires[wire].add("latency", latency=100)


async def slow_and_jittery(world: World, wire: str) -> None:
    await world.wires[wire].add("latency", *BOTH, latency=60, jitter=50)


async def half_a_message(world: World, wire: str) -> None:
    await world.wires[wire].add("limit_data", bytes=3)


async def half_a_message_then_silence(world: World, wire: str) -> None:
    await world.wires[wire].add("slicer", average_size=3, size_variation=0, delay=3_600_000_000)


async def reply_lost(world: World, wire: str) -> None:
    await world.wires[wire].add("limit_data", bytes=0)


async def closed_by_the_other_side(world: World, wire: str) -> None:
    match wire:
        case "source":
            await world.source.drop_clients()
        case "redis":
            async with Redis.from_url(world.redis_url, single_connection_client=True) as admin:
                await admin.client_kill_filter(_type="normal", skipme=True)
        case "postgres":
            connection = await asyncpg.connect(world.database_url)
            ending = "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database()"
            await connection.execute(f"{ending} and pid <> pg_backend_pid()")
            await connection.close()


async def restored(world: World, wire: str) -> None:
    """Refused, and restored before any second attempt."""
    await world.wires[wire].refuse()
    await world.wires[wire].heal()


FORGOTTEN_BY_ASYNCPG = "unexpected connection_lost() call"
"""Connecting was cancelled between TCP's answer and the request for TLS. Nobody holds that future any more."""
LASTING = [refused, reset, silent, half_a_message, half_a_message_then_silence, reply_lost]
"""Nothing gets through until the fault is removed."""
PASSING = [slow, slow_and_jittery, closed_by_the_other_side, restored]
"""Work goes on."""


@contextlib.asynccontextmanager
async def world_of(
    redis_url: str, database_url: str, directory: Path, fault_proxies: Toxiproxy, **settings: str
) -> AsyncIterator[World]:
    RUNS.forget()
    unheard: list[dict] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, shown: unheard.append(shown))
    async with (
        resuming_source() as source,
        toxic_wire(fault_proxies, source.url) as to_source,
        toxic_wire(fault_proxies, redis_url) as to_redis,
        toxic_wire(fault_proxies, database_url) as to_postgres,
        running_listener(
            ws_url=to_source.url, redis_url=to_redis.url, database_url=to_postgres.url, directory=directory,
            database_timeout="1", keepalive="1", lease="5", insert_attempts="100", insert_delay="0.2",
            reconnect_max="1", **{"handler": HOLD, **settings},
        ) as listener,
    ):  # fmt: skip
        wires = {"source": to_source, "redis": to_redis, "postgres": to_postgres}
        world = World(listener, source, wires, redis_url, database_url)
        before = await world.publish("before", 10)
        await source.publish(*HELD)
        await world.stored(before)
        await world.heard.until(lambda _: len(RUNS.begun) == 15)
        yield world
    gc.collect()
    ours = [shown for shown in unheard if str(shown.get("exception")) != FORGOTTEN_BY_ASYNCPG]
    assert ours == [], "an exception that was never retrieved"
    await assert_law(database_url, directory, source.event_ids)
    assert letters_in(directory) == [], "an outage shorter than all attempts causes no letter"
    if "handler" not in settings:
        assert sorted(RUNS.begun) == sorted(source.event_ids), "a handler ran twice although its owner lived"


def felt(heard: Heard, wire: str) -> bool:
    """Whether the listener has noticed that this connection does not work."""
    match wire:
        case "source":
            return bool(heard.of(SourceLost))
        case "redis":
            return heard.of(PlacesDeclared)[-1].degraded
    return any(fact.name == "postgres" and fact.state == "open" for fact in heard.of(BreakerChanged))


def well_again(heard: Heard, wire: str) -> bool:
    match wire:
        case "source":
            connections = [fact for fact in heard.facts if isinstance(fact, SourceConnected | SourceLost)]
            return isinstance(connections[-1], SourceConnected)
        case "redis":
            return not heard.of(PlacesDeclared)[-1].degraded
    return [fact.state for fact in heard.of(BreakerChanged) if fact.name == "postgres"][-1] == "closed"


@pytest.mark.parametrize("harm", LASTING, ids=lambda harm: harm.__name__)
@pytest.mark.parametrize("wire", ["source", "redis", "postgres"])
async def test_nothing_gets_through(
    redis_url: str, database_url: str, tmp_path: Path, fault_proxies: Toxiproxy, wire: str, harm: Harm
):
    async with world_of(redis_url, database_url, tmp_path, fault_proxies) as world:
        async with Yardstick(database_url) as yardstick:
            await harm(world, wire)
            during = await world.publish("during", 20)
            if wire == "redis":
                await world.stored(during)
                assert yardstick.seconds < FLOWS_AGAIN_SECONDS
        await world.heard.until(lambda h: felt(h, wire))
        RUNS.go_on.set()
        if wire == "postgres":
            await world.heard.until(lambda h: bool(h.of(StoringPaused)))
        else:
            await world.stored(HELD)
        await world.wires[wire].heal()
        after = await world.publish("after", 10)
        await world.stored([*HELD, *during, *after])
        await world.heard.until(lambda h: well_again(h, wire))


@pytest.mark.parametrize("harm", PASSING, ids=lambda harm: harm.__name__)
@pytest.mark.parametrize("wire", ["source", "redis", "postgres"])
async def test_work_goes_on(
    redis_url: str, database_url: str, tmp_path: Path, fault_proxies: Toxiproxy, wire: str, harm: Harm
):
    async with world_of(redis_url, database_url, tmp_path, fault_proxies, redis_timeout="1.6") as world:
        await harm(world, wire)
        during = await world.publish("during", 20)
        RUNS.go_on.set()
        await world.stored([*during, *HELD])
        if wire == "source" and harm in (closed_by_the_other_side, restored):
            assert felt(world.heard, wire)
        assert not world.heard.of(PlacesDeclared)[-1].degraded, "a single failure does not mean that Redis is away"
        await world.wires[wire].heal()
        await world.stored(await world.publish("after", 10))


@pytest.mark.parametrize("harm", [reset, silent, closed_by_the_other_side], ids=lambda harm: harm.__name__)
@pytest.mark.parametrize("wire", ["source", "postgres"])
async def test_the_libraries_ordinary_ways_recover_too(
    redis_url: str, database_url: str, tmp_path: Path, fault_proxies: Toxiproxy, wire: str, harm: Harm
):
    async with world_of(redis_url, database_url, tmp_path, fault_proxies, fast="off") as world:
        await harm(world, wire)
        during = await world.publish("during", 20)
        RUNS.go_on.set()
        if harm is not closed_by_the_other_side:
            await world.heard.until(lambda h: felt(h, wire))
        await world.wires[wire].heal()
        await world.stored([*HELD, *during, *await world.publish("after", 10)])


@pytest.mark.parametrize("harm", [reset, silent, reply_lost], ids=lambda harm: harm.__name__)
async def test_a_handlers_effect_in_the_rows_transaction_happens_exactly_once(
    redis_url: str, database_url: str, tmp_path: Path, fault_proxies: Toxiproxy, harm: Harm
):
    connection = await asyncpg.connect(database_url)
    await connection.execute("create table effects (event_id text)")
    form = {"handler": HOLD_IN_TRANSACTION, "handle_attempts": "100", "handle_delay": "0.2"}
    async with world_of(redis_url, database_url, tmp_path, fault_proxies, **form) as world:
        await harm(world, "postgres")
        during = await world.publish("during", 20)
        RUNS.go_on.set()
        await world.heard.until(
            lambda h: {fact.event_id for fact in h.of(AttemptFailed)} >= set(HELD) or bool(h.of(StoringPaused))
        )
        await world.wires["postgres"].heal()
        await world.stored([*HELD, *during, *await world.publish("after", 10)])
    effects = [row["event_id"] for row in await connection.fetch("select event_id from effects")]
    await connection.close()
    assert sorted(effects) == sorted(world.source.event_ids)
