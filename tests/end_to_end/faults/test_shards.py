"""Two shards of one group, each with a PostgreSQL of its own: an event is a row of one of them, whoever dies."""

import asyncio
import contextlib
import json
import os
import random
import subprocess
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.end_to_end.faults.conftest import frame
from tests.end_to_end.producer.conftest import RunningProducer, producer  # noqa: F401  a fixture
from tests.support.listeners import RunningListener, running_listener, until_among
from tests.support.servers import running_postgres
from unlost.listener.core.facts import EventsDuplicate, EventsStored, SourceConnected, StoringPaused
from unlost.listener.core.shard import Shard
from unlost.listener.store.postgres.reports import Reports
from unlost.ops.system.layout import executable
from unlost.ops.system.postgres import PostgresServer

FIRST, SECOND = "orders-shard1of2", "orders-shard2of2"


@pytest.fixture
def other_postgres() -> Iterator[PostgresServer]:
    with running_postgres() as server:
        yield server


def publish(to: RunningProducer, name: str, count: int = 100) -> set[str]:
    event_ids = [f"{name}{number}" for number in range(count)]
    to.http.post("/publish/batch", content="\n".join(map(frame, event_ids))).raise_for_status()
    return set(event_ids)


def of(group: str, event_ids: set[str]) -> set[str]:
    shard = Shard.of_group(group)
    assert shard is not None
    return {one for one in event_ids if shard.has(one)}


async def ids_in(database_url: str, group: str) -> list[str]:
    connection = await asyncpg.connect(database_url)
    try:
        return sorted(await Reports(connection, group).ids())
    finally:
        await connection.close()


def commanded(command: str, group: str, database_url: str, producer: RunningProducer) -> dict[str, Any]:  # noqa: F811
    """The JSON that a command prints, and its exit code."""
    done = subprocess.run(
        [executable("unlost"), *command.split(), "--group", group, "--database-url", database_url],
        env={**os.environ, "PRODUCER_URL": producer.url, "LISTENERS": "", "SETTLE": "0"},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stdout, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found | {"exit": done.returncode}


async def until_stored(by: RunningListener, event_ids: set[str]) -> None:
    await by.heard.until(lambda h: event_ids <= set(h.ids(EventsStored)), 60)


@contextlib.asynccontextmanager
async def in_shard(
    group: str,
    source: RunningProducer,
    database_url: str,
    redis_url: str,
    directory: Path,
    **settings: str,
) -> AsyncIterator[RunningListener]:
    async with running_listener(
        ws_url=source.stream, database_url=database_url, redis_url=redis_url, directory=directory, group=group,
        **{"instance_id": group, **settings},
    ) as one:  # fmt: skip
        await one.heard.until(lambda h: bool(h.of(SourceConnected)), 30)
        yield one


async def test_a_shard_that_is_away_delays_its_own_events_alone(
    producer: RunningProducer,  # noqa: F811
    own_postgres: PostgresServer,
    other_postgres: PostgresServer,
    redis_url: str,
    tmp_path: Path,
) -> None:
    here, there = own_postgres.url, other_postgres.url
    async with (
        in_shard(FIRST, producer, here, redis_url, tmp_path) as first,
        in_shard(SECOND, producer, there, redis_url, tmp_path) as second,
    ):
        wanted = publish(producer, "both")
        await until_stored(first, of(FIRST, wanted))
        await until_stored(second, of(SECOND, wanted))
        other_postgres.kill()
        wanted |= publish(producer, "away")
        await until_stored(first, of(FIRST, wanted))
        await second.heard.until(lambda h: bool(h.of(StoringPaused)))
        assert not of(SECOND, wanted) <= set(second.heard.ids(EventsStored))
        other_postgres.start()
        await until_stored(second, of(SECOND, wanted))
    assert await ids_in(here, FIRST) == sorted(of(FIRST, wanted))
    assert await ids_in(there, SECOND) == sorted(of(SECOND, wanted))
    for group, url in ((FIRST, here), (SECOND, there)):
        audited = await asyncio.to_thread(commanded, "audit --json", group, url, producer)
        count = len(of(group, wanted))
        assert {name: audited[name] for name in ("accepted", "rows", "missing", "exit")} == {
            "accepted": count, "rows": count, "missing": 0, "exit": 0
        }  # fmt: skip
        known = await asyncio.to_thread(commanded, "event both0", group, url, producer)
        assert (known["stored_by"] == group) == (known["row"] is not None)
    groups = producer.http.get("/api/journal/groups").json()["groups"]
    assert {one["group"].partition("@")[0] for one in groups} == {FIRST, SECOND}


@pytest.mark.parametrize("partitions", ["off", "on"])
async def test_whoever_dies_each_event_is_a_row_of_its_shard(
    producer: RunningProducer,  # noqa: F811
    own_postgres: PostgresServer,
    other_postgres: PostgresServer,
    redis_url: str,
    tmp_path: Path,
    partitions: str,
) -> None:
    at = {FIRST: own_postgres, SECOND: other_postgres}
    chance, wanted = random.Random(7), set[str]()
    async with contextlib.AsyncExitStack() as listeners:
        alive: dict[str, list[RunningListener]] = {FIRST: [], SECOND: []}
        ever: dict[str, list[RunningListener]] = {FIRST: [], SECOND: []}

        async def start(group: str, name: str) -> None:
            settings: dict[str, Any] = {"instance_id": name, "partitions": partitions}
            one = in_shard(group, producer, at[group].url, redis_url, tmp_path, **settings)
            alive[group].append(await listeners.enter_async_context(one))
            ever[group].append(alive[group][-1])

        def settled(group: str) -> set[str]:
            """A row whose listener died before it could say so is a duplicate for another one."""
            heard = [one.heard for one in ever[group]]
            return {name for one in heard for name in (*one.ids(EventsStored), *one.ids(EventsDuplicate))}

        def all_settled(group: str) -> bool:
            return of(group, wanted) <= settled(group)

        for group in at:
            await start(group, f"{group}-a")
            await start(group, f"{group}-b")
        for turn in range(3):
            wanted |= publish(producer, f"turn{turn}-")
            group = chance.choice([FIRST, SECOND])
            if turn == 1:
                at[group].kill()
                at[group].start()
            else:
                await alive[group].pop(chance.randrange(2)).crash()
                await start(group, f"{group}-{turn}")
        wanted |= publish(producer, "last")
        for group in at:
            await until_among(alive[group], partial(all_settled, group), 60)
    for group, server in at.items():
        assert await ids_in(server.url, group) == sorted(of(group, wanted))
