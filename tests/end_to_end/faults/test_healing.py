"""Letters that heal: what failed for a reason that passes is settled without a human, by any listener."""

import asyncio
import contextlib
import shutil
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from tests.end_to_end.faults.conftest import frame, frames, letters
from tests.support.handlers import HOLD, NEEDS, RUNS
from tests.support.listeners import RunningListener, rows_of, running_listener
from tests.support.source import Source, running_source
from unlost.dlq.record.query import Selection
from unlost.dlq.record.sidecar import states
from unlost.listener.core.facts import (
    EventBuried,
    EventsStored,
    LettersResolved,
    LettersTriedInVain,
    RoutePaused,
    SourceConnected,
)
from unlost.listener.pipeline.route_breaker import FEW
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.letter_store import TableLetters

SOON = {"handle_attempts": "1", "heal_first": "0.4", "heal_max": "1", "handler": NEEDS}


@pytest.fixture(autouse=True)
def _no_runs() -> None:
    RUNS.forget()


@contextlib.asynccontextmanager
async def listening(servers: dict, **settings: str) -> AsyncIterator[tuple[Source, RunningListener]]:
    async with (
        running_source() as source,
        running_listener(ws_url=source.url, **{**servers, **SOON, **settings}) as one,
    ):
        await source.wait_for_clients(1)
        await one.heard.until(lambda h: bool(h.of(SourceConnected)))
        yield source, one


async def buried(listener: RunningListener, count: int) -> None:
    await listener.heard.until(lambda h: len(h.of(EventBuried)) == count)


async def fail_each(source: Source, listener: RunningListener, failing: list[str]) -> list[str]:
    """Let all of these become letters. A success after every few keeps the route from pausing; return their ids."""
    fine = []
    for begin in range(0, len(failing), FEW - 1):
        some = failing[begin : begin + FEW - 1]
        await source.send(*some)
        await buried(listener, begin + len(some))
        fine.append(f"fine{begin}")
        await source.send(frame(fine[-1]))
        await listener.heard.until(lambda h: {*fine} <= {*h.ids(EventsStored)})
    assert not listener.heard.of(RoutePaused)
    return fine


async def of_list(servers: dict, query: str) -> list[tuple]:
    connection = await asyncpg.connect(servers["database_url"])
    try:
        return [tuple(row) for row in await connection.fetch(query)]
    finally:
        await connection.close()


async def until(right, seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not await right():  # noqa: ASYNC110  facts of a server
            await asyncio.sleep(0.05)


async def test_one_letter_probes_a_failed_dependency_and_all_heal_afterwards(
    servers: dict,
):
    async with listening(servers) as (source, one):
        fine = await fail_each(source, one, [*frames("e", 30), frame("refused1")])
        await one.heard.until(lambda h: sum(f.count for f in h.of(LettersTriedInVain)) == 3)
        probes = [event_id for event_id, count in Counter(RUNS.begun).items() if count > 1]
        assert 1 <= len(probes) <= 3
        assert len(RUNS.begun) == 31 + len(fine) + 3, "each time one letter, and one attempt of it"
        RUNS.go_on.set()
        await one.heard.until(lambda h: sum(len(f.letter_ids) for f in h.of(LettersResolved)) == 30)
        assert len(one.heard.of(EventBuried)) == 31, "no second letter is written"

        async def known() -> bool:
            known = states(servers["directory"] / "a.jsonl").values()
            return sum(state.status == "resolved" and state.detail == "stored by a" for state in known) == 30

        await until(known)
    assert [row["event_id"] for row in await rows_of(servers["database_url"])] == sorted(
        [*fine, *(f"e{i}" for i in range(30))]
    )
    assert await of_list(servers, "select reason, status, heal_at from unlost.letters where status <> 'resolved'") == [
        ("rejected", "open", None)
    ]
    sums = "select sum(open), sum(resolved), sum(healing) from unlost.letter_groups"
    assert await of_list(servers, sums) == [(1, 30, 0)]


async def test_one_that_fails_always_holds_up_no_other_and_needs_a_human_in_the_end(servers: dict):
    async with listening(servers, heal_attempts="3", heal_first="0.2", heal_max="0.2") as (source, one):
        fine = await fail_each(source, one, [frame("poison"), *frames("e", 5)])
        RUNS.go_on.set()
        await one.heard.until(lambda h: len(h.ids(EventsStored)) == 5 + len(fine))

        async def given_up() -> bool:
            waiting = "select event_id, heal_at from unlost.letters where status <> 'resolved'"
            return await of_list(servers, waiting) == [("poison", None)]

        await until(given_up)
        assert 2 <= RUNS.begun.count("poison") <= 1 + 3
        (record, *_) = await of_list(servers, "select what, detail, done_by from unlost.letter_records order by at")
        assert (record[0], record[2]) in {("retried", "listener a"), ("resolved", "listener a")}


async def test_a_letter_of_another_handler_or_in_a_replay_is_left_alone(servers: dict):
    async with listening(servers, heal="off") as (source, one):
        await source.send(*frames("e", 2))
        await buried(one, 2)

        async def listed() -> bool:
            return await of_list(servers, "select count(*) from unlost.letters") == [(2,)]

        await until(listed)
    change = "update unlost.letters set heals = true, heal_at = now() - interval '1 hour'"
    await of_list(servers, change)
    RUNS.forget()
    async with listening(servers, handler=HOLD) as (source, one):
        await source.send(frame("live"))
        await one.heard.until(lambda h: h.ids(EventsStored) == ["live"])
    assert RUNS.begun == ["live"]
    RUNS.forget()
    RUNS.go_on.set()
    database = Database(servers["database_url"])
    async with TableLetters(database).replaying(Selection(ids=("e0",)), 0, "a person") as taking:
        assert len(await taking.take(1)) == 1
        async with listening(servers) as (source, one):
            await one.heard.until(lambda h: h.ids(EventsStored) == ["e1"])
            (held,) = (await TableLetters(database).latest(Selection(ids=("e0",)), 1)).entries
            await taking.free([held.letter.letter_id])
            await one.heard.until(lambda h: sorted(h.ids(EventsStored)) == ["e0", "e1"])
    await database.close()


async def test_a_peer_heals_what_a_lost_listener_and_its_lost_disk_have_left(servers: dict, tmp_path: Path):
    disk = tmp_path / "disk"
    disk.mkdir()
    async with running_source() as source:
        lost = running_listener(ws_url=source.url, **{**servers, **SOON, "directory": disk, "heal": "off"})
        async with lost as one:
            await source.wait_for_clients(1)
            await one.heard.until(lambda h: bool(h.of(SourceConnected)))
            await source.send(*frames("e", 5))
            await buried(one, 5)
            await until(lambda: _is_shipped(one))
            await one.crash()
            assert len(letters(disk)) == 5
            shutil.rmtree(disk)
        await of_list(servers, "update unlost.letters set heals = true, heal_at = now()")
        RUNS.go_on.set()
        began = time.monotonic()
        async with running_listener(ws_url=source.url, **{**servers, **SOON, "instance_id": "b"}) as peer:
            await peer.heard.until(lambda h: sum(len(f.letter_ids) for f in h.of(LettersResolved)) == 5)
            assert time.monotonic() - began < 15
    assert [row["event_id"] for row in await rows_of(servers["database_url"])] == [f"e{i}" for i in range(5)]
    assert await of_list(servers, "select distinct status, instance_id, state_by from unlost.letters") == [
        ("resolved", "a", "listener b")
    ]


async def _is_shipped(listener: RunningListener) -> bool:
    return listener.health["letters"]["unshipped_bytes"] == 0


async def test_an_orderly_stop_leaves_its_letters_to_the_peers(servers: dict):
    same = {**servers, "handler": HOLD, "peer_wait": "0"}
    async with running_source() as source:
        async with running_listener(ws_url=source.url, **same, shutdown_timeout="0.2") as one:
            await source.wait_for_clients(1)
            await one.heard.until(lambda h: bool(h.of(SourceConnected)))
            await source.send(frame("held"))
            await one.heard.until(lambda _: RUNS.begun == ["held"])
        RUNS.go_on.set()
        async with running_listener(ws_url=source.url, **same, instance_id="b") as peer:
            await peer.heard.until(lambda h: bool(h.of(LettersResolved)))
            assert peer.heard.ids(EventsStored) == ["held"]
    assert await of_list(servers, "select status, state_by from unlost.letters") == [("resolved", "listener b")]


async def test_a_stop_while_letters_heal_uses_up_no_try_and_the_next_start_goes_on(servers: dict):
    same = {**servers, "handler": HOLD, "peer_wait": "0", "shutdown_timeout": "0.2", "heal_attempts": "3"}
    async with running_source() as source:
        for number in range(1, 5):
            async with running_listener(ws_url=source.url, **same) as one:
                await source.wait_for_clients(1)
                await one.heard.until(lambda h: bool(h.of(SourceConnected)))
                if number == 1:
                    await source.send(*frames("held", 3))
                await one.heard.until(lambda _, number=number: len(RUNS.begun) >= number)  # type: ignore[misc]
            listed = "select reason, status, heal_at <= now(), heal_base from unlost.letters"
            assert await of_list(servers, listed) == [("stopped", "open", True, 0)] * 3
            assert await of_list(servers, "select * from unlost.letter_leases") == []
        RUNS.go_on.set()
        async with running_listener(ws_url=source.url, **same) as one:
            await one.heard.until(lambda h: sum(len(f.letter_ids) for f in h.of(LettersResolved)) == 3)
    assert [row["event_id"] for row in await rows_of(servers["database_url"])] == ["held0", "held1", "held2"]
