"""An orderly stop of a listener whose source sends nothing again: every received event is accounted for."""

import asyncio
import contextlib
import shutil
from collections import Counter
from pathlib import Path

import asyncpg
import pytest

from tests.end_to_end.faults.conftest import frame, frames, letters, open_letters
from tests.support.handlers import HOLD, RUNS
from tests.support.listeners import rows_of, running_listener
from tests.support.source import running_source
from unlost.dlq.record.sidecar import states
from unlost.listener.core.errors import Unaccounted
from unlost.listener.core.facts import (
    EventBuried,
    EventsStandBy,
    EventsStored,
    LettersResolved,
    SourceConnected,
    SourceGap,
)


@pytest.fixture(autouse=True)
def _no_runs() -> None:
    RUNS.forget()


async def until_written(directory: Path, count: int, name: str = "a") -> None:
    """Outcomes stand in PostgreSQL first, and soon in the listener's own file too."""
    async with asyncio.timeout(20):
        while sum(one.status == "resolved" for one in states(directory / f"{name}.jsonl").values()) < count:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def ids_of(servers: dict) -> list[str]:
    return sorted(row["event_id"] for row in await rows_of(servers["database_url"]))


async def test_the_drain_also_finishes_events_that_have_not_begun(servers: dict):
    same = {**servers, "handler": HOLD, "handle_concurrency": "1", "shutdown_timeout": "20"}
    async with running_source() as source, running_listener(ws_url=source.url, **same) as one:
        await source.wait_for_clients(1)
        await one.heard.until(lambda h: bool(h.of(SourceConnected)))
        await source.send(frame("held"), *frames("e", 200))
        await one.heard.until(lambda _: RUNS.begun == ["held"])
        one.daemon.stop()
        RUNS.go_on.set()
        await asyncio.wait_for(one.task, 20)
    assert await ids_of(servers) == sorted(["held", *(f"e{i}" for i in range(200))])
    assert letters(servers["directory"]) == []


async def test_the_next_start_settles_letters_that_the_drain_wrote(servers: dict):
    same = {**servers, "handler": HOLD, "handle_concurrency": "2", "max_event_bytes": "1024", "max_bytes": "65536"}
    giant = frame("giant", "x" * 200_000)
    sent = [frame("first"), *frames("held", 40), frame("held3", "other"), frame("held3"), "no event", giant]
    async with running_source() as source:
        async with running_listener(ws_url=source.url, **same, shutdown_timeout="0.3") as one:
            await source.wait_for_clients(1)
            await one.heard.until(lambda h: bool(h.of(SourceConnected)))
            await source.send(*sent)
            await one.heard.until(lambda h: h.ids(EventsStored) == ["first"] and one.health["in_memory"] >= 40)
        assert await ids_of(servers) == ["first"]
        left = open_letters(servers["directory"])
        assert {(one.error_class, one.error_type) for one in left if one.reason == "stopped"} == {
            ("transient", "Stopped")
        }
        assert Counter(one.event_id for one in left if one.event) == Counter(
            [*(f"held{i}" for i in range(40)), "held3"]
        )
        assert {one.raw for one in left if one.event is None} == {b"no event", giant.encode()[:4096]}
        assert len(left) == 43
        RUNS.forget()
        RUNS.go_on.set()
        async with running_listener(ws_url=source.url, **same) as again:
            await source.wait_for_clients(1)
            await again.heard.until(lambda h: bool(h.of(SourceConnected)))
            await source.send(frame("live"))
            await again.heard.until(lambda h: h.ids(EventsStored) == ["live"])
            await again.heard.until(lambda h: sum(len(f.letter_ids) for f in h.of(LettersResolved)) == 43)
            await until_written(servers["directory"], 43)
    assert await ids_of(servers) == sorted(["first", "live", *(f"held{i}" for i in range(40))])
    assert {(one.reason, one.event_id) for one in open_letters(servers["directory"])} == {
        ("conflict", "held3"), ("invalid", None)
    }  # fmt: skip
    assert len(open_letters(servers["directory"])) == 3
    assert Counter(RUNS.begun) == Counter(["live", *(f"held{i}" for i in range(40))])
    notes = {one.detail for one in states(servers["directory"] / "a.jsonl").values()}
    assert notes == {"stored by a", "another letter of the same event waits, written by a"}


async def test_a_stop_buries_events_that_a_restored_journal_has_lost(servers: dict):
    """The source can resume, and had these events when it sent them."""
    same = {**servers, "handler": HOLD, "handle_concurrency": "1", "shutdown_timeout": "0.3", "reconnect_first": "0.1"}
    begins = "0123456789ab.t1-0000000a."
    start = {"unlost-oldest": f"{begins}0", "unlost-cursor": f"{begins}0"}
    async with running_source() as source:
        source.headers = start
        async with running_listener(ws_url=source.url, **same) as one:
            await one.heard.until(lambda h: bool(h.of(SourceConnected)))
            await source.send(*(frame(f"held{n}", cursor=f"{begins}{n}") for n in range(1, 4)))
            await one.heard.until(lambda _: one.health["in_memory"] == 3)
            await source.stop()
            source.headers = {**start, "unlost-gap": f"{begins}3"}
            await source.start()
            await one.heard.until(lambda h: bool(h.of(SourceGap)))
        assert {(one.event_id, one.reason) for one in open_letters(servers["directory"])} == {
            (f"held{n}", "stopped") for n in range(1, 4)
        }
        RUNS.go_on.set()
        source.headers = start
        async with running_listener(ws_url=source.url, **same) as again:
            await again.heard.until(lambda h: sum(len(f.letter_ids) for f in h.of(LettersResolved)) == 3)
    assert await ids_of(servers) == ["held1", "held2", "held3"]


async def test_a_gap_that_is_declared_just_before_the_stop_reaches_postgres(servers: dict):
    begins = "0123456789ab.t1-0000000a."
    async with running_source() as source:
        source.headers = start = {"unlost-oldest": f"{begins}0", "unlost-cursor": f"{begins}0"}
        connection = await asyncpg.connect(servers["database_url"])
        async with running_listener(ws_url=source.url, **servers, reconnect_first="0.1") as one:
            await one.heard.until(lambda h: bool(h.of(SourceConnected)))
            lock = connection.transaction()
            await lock.start()
            await connection.execute("lock table unlost.gaps")
            await source.stop()
            source.headers = {**start, "unlost-gap": f"{begins}3"}
            await source.start()
            await one.heard.until(lambda h: bool(h.of(SourceGap)))
            one.daemon.stop()
            while one.health["phase"] == "running":  # noqa: ASYNC110
                await asyncio.sleep(0)
            await lock.rollback()
            await asyncio.wait_for(one.task, 20)
            assert await connection.fetchval("select count(*) from unlost.gaps") == len(one.heard.of(SourceGap))
        await connection.close()


async def test_a_peer_that_saw_it_too_stores_it_and_the_letter_is_settled_without_another_run(servers: dict):
    same = {**servers, "handler": HOLD, "peer_wait": "0"}
    async with running_source() as source:
        first = running_listener(ws_url=source.url, **same, shutdown_timeout="0.2")
        second = running_listener(ws_url=source.url, **same, instance_id="b")
        async with first as one, second as two:
            await source.wait_for_clients(2)
            for listener in (one, two):
                await listener.heard.until(lambda h: bool(h.of(SourceConnected)))
            await source.send(frame("held"))
            await one.heard.until(lambda _: RUNS.begun == ["held"])
            owner, peer = (one, two) if not one.heard.ids(EventsStandBy) else (two, one)
            await peer.heard.until(lambda h: h.ids(EventsStandBy) == ["held"])
            await owner.stop()
            await peer.heard.until(lambda _: RUNS.begun == ["held", "held"])
            RUNS.go_on.set()
            await peer.heard.until(lambda h: h.ids(EventsStored) == ["held"])
        name = owner.settings.instance_id
        (letter,) = open_letters(servers["directory"], name)
        assert (letter.event_id, letter.reason) == ("held", "stopped")
        # The peer may have found the letter in the fleet's list before it stopped. Either way the file gets to know.
        async with running_listener(ws_url=source.url, **same, instance_id=name):
            await until_written(servers["directory"], 1, name)
    assert open_letters(servers["directory"], name) == []
    assert RUNS.begun == ["held", "held"]
    assert await ids_of(servers) == ["held"]


async def test_a_stop_that_leaves_events_unaccounted_for_says_so_and_fails(servers: dict):
    directory = servers["directory"] / "letters"
    directory.mkdir()
    same = {**servers, "directory": directory, "handler": HOLD, "shutdown_timeout": "0.1"}
    async with running_source() as source, contextlib.AsyncExitStack() as running:
        one = await running.enter_async_context(running_listener(ws_url=source.url, **same))
        await source.wait_for_clients(1)
        await one.heard.until(lambda h: bool(h.of(SourceConnected)))
        await source.send(*frames("held", 2))
        await one.heard.until(lambda _: len(RUNS.begun) == 2)
        shutil.rmtree(directory)
        one.daemon.stop()
        await asyncio.wait({one.task})
        with pytest.raises(Unaccounted, match=r"2 received events are in no row and no letter: cannot write"):
            await running.aclose()
    assert not one.heard.of(EventBuried)
