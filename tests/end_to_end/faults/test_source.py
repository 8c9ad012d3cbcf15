"""A source can hurt a listener: close at once, send giants, forget, and lack any memory."""

import asyncio
import hashlib
import itertools
import json
import sys
from typing import Any

from websockets.asyncio.server import ServerConnection, serve

from tests.end_to_end.faults.conftest import assert_law, frame, frames, letters
from tests.support.listeners import rows_of, running_listener
from tests.support.source import running_source
from unlost.listener.core.facts import (
    BreakerChanged,
    CursorSaved,
    EventBuried,
    EventsStored,
    SourceConnected,
    SourceGap,
    SourceLost,
)


async def test_a_source_that_accepts_and_closes_is_asked_ever_more_slowly(servers: dict):
    connections = itertools.count(1)
    seen = 0

    async def close_at_once(client: ServerConnection) -> None:
        nonlocal seen
        seen = next(connections)

    async with serve(close_at_once, "127.0.0.1", 0) as server:
        url = f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}/"
        async with running_listener(ws_url=url, **servers, reconnect_first="0.1", reconnect_max="0.8") as one:
            await one.heard.until(lambda h: len(h.of(SourceLost)) >= 6)
            lost = one.heard.of(SourceLost)
            assert seen <= len(lost) + 1, "one connection after each backoff"
            for fact, ceiling in zip(lost, (0.1, 0.2, 0.4, 0.8, 0.8, 0.8), strict=False):
                assert ceiling / 10 <= fact.delay <= ceiling
            assert not one.daemon.health().is_ready


async def test_a_giant_frame_is_buried_and_does_not_end_connection_after_connection(servers: dict):
    giant = frame("giant", "x" * 100_000)
    async with running_source() as source:
        source.backlog = lambda after: [frame("before"), giant, frame("after")]
        async with running_listener(ws_url=source.url, **servers, max_event_bytes="65536", max_bytes="65536") as one:
            await one.heard.until(lambda h: set(h.ids(EventsStored)) == {"before", "after"})
            await one.heard.until(lambda h: len(h.of(EventBuried)) == 1)
            await source.send(frame("another", "y" * 100_000), frame("last"))
            await one.heard.until(lambda h: "last" in h.ids(EventsStored) and len(h.of(EventBuried)) == 2)
            assert len(one.heard.of(SourceConnected)) == 1
    found = letters(servers["directory"])
    assert [(letter.reason, letter.error_class) for letter in found] == [("invalid", "permanent")] * 2
    assert found[0].raw == giant.encode()[:4096], "only the beginning of a giant is ever held"
    assert (found[0].raw_length, found[0].raw_sha256) == (len(giant), hashlib.sha256(giant.encode()).hexdigest())
    assert f"{len(giant):,} bytes" in found[0].message


async def test_a_number_that_postgresql_cannot_hold_is_a_conflict_and_ends_no_listener(servers: dict):
    """The second content can only be compared in PostgreSQL, which refuses it."""
    async with running_source() as source:
        source.backlog = lambda after: ['{"event_id":"x","payload":1}']
        async with running_listener(ws_url=source.url, **servers) as one:
            await one.heard.until(lambda h: h.ids(EventsStored) == ["x"])
            await source.send('{"event_id":"x","payload":1e400000}', frame("after"))
            await one.heard.until(lambda h: len(h.of(EventBuried)) == 1 and "after" in h.ids(EventsStored))
            assert not one.task.done()
    assert [(letter.reason, letter.event_id) for letter in letters(servers["directory"])] == [("conflict", "x")]


async def test_events_that_it_could_not_read_are_left_to_the_source(servers: dict):
    """Our producer says how large an event may be. A letter with the beginning of one could never become a row."""
    async with running_source() as source:
        source.headers = {"unlost-oldest": "c-0", "unlost-cursor": "c-0", "unlost-max-event": "65537"}
        source.backlog = lambda after: [frame("giant", "x" * 65_000, cursor="c-1")]
        options: dict[str, Any] = {"reconnect_first": "0.1", "reconnect_max": "0.1", "max_event_bytes": "65536"}
        async with running_listener(ws_url=source.url, **servers, **options) as one:
            await one.heard.until(lambda h: len(h.of(SourceLost)) >= 2)
            assert not one.daemon.health().is_ready
            assert one.heard.of(SourceLost)[0].why == (
                "the producer accepts events of up to 65,537 bytes, and this listener reads at most 65,536: "
                "set its MAX_EVENT_BYTES to 65537 or more"
            )
        source.headers["unlost-max-event"] = "65536"
        async with running_listener(ws_url=source.url, **servers, **options) as one:
            await one.heard.until(lambda h: set(h.ids(EventsStored)) == {"giant"})


async def test_a_group_resumes_after_its_cursor_and_hears_of_a_gap(servers: dict):
    async with running_source() as source:
        source.headers = {"unlost-oldest": "c-0", "unlost-cursor": "c-0"}
        async with running_listener(ws_url=source.url, **servers) as one:
            await source.wait_for_clients(1)
            await one.heard.until(lambda h: bool(h.of(SourceConnected)))
            await source.send(*(frame(f"e{i}", cursor=f"c-{i}") for i in range(10)))
            await one.heard.until(lambda h: bool(h.of(CursorSaved)) and h.of(CursorSaved)[-1].cursor == "c-9")
        source.headers = {"unlost-oldest": "c-20", "unlost-gap": "c-9", "unlost-cursor": "c-20"}
        source.backlog = lambda after: [frame(f"e{i}", cursor=f"c-{i}") for i in range(20, 23)]
        async with running_listener(ws_url=source.url, **servers, instance_id="b") as two:
            await two.heard.until(lambda h: len(h.ids(EventsStored)) == 3)
            (declared,) = two.heard.of(SourceGap)
            gap = declared.gap
            assert (gap.how, gap.after, gap.resumed_at) == ("unknown_cursor", "c-9", "c-20")
    assert source.asked_after == [None, "c-0", None, "c-9"]
    assert len(await rows_of(servers["database_url"])) == 13


async def test_overflow_in_an_outage_is_buried_if_the_source_cannot_resume(servers: dict, own_postgres):
    """Events in memory wait for as long as necessary, on a single attempt. A replay stores all others."""
    servers["database_url"] = own_postgres.url
    few = {**servers, "insert_attempts": "1", "max_events": "20"}
    async with running_source() as source, running_listener(ws_url=source.url, **few) as one:
        await source.wait_for_clients(1)
        await source.send(*frames("before", 5))
        await one.heard.until(lambda h: len(h.ids(EventsStored)) == 5)
        own_postgres.stop()
        await one.heard.until(lambda h: any(f.name == "postgres" and f.state == "open" for f in h.of(BreakerChanged)))
        await source.send(*frames("away", 100))
        await one.heard.until(lambda h: len(h.of(EventBuried)) == 80)
        own_postgres.start()
        await one.heard.until(lambda h: len(h.ids(EventsStored)) == 25)
        assert len(one.heard.of(SourceConnected)) == 1
    buried = letters(servers["directory"])
    assert {(letter.reason, letter.error_class) for letter in buried} == {("overflow", "transient")}
    ids = {f"before{i}" for i in range(5)} | {f"away{i}" for i in range(100)}
    assert_law(ids, await rows_of(own_postgres.url), buried)
    assert await replayed(servers) == {"stored": 80, "already_stored": 0, "failed": 0}
    assert_law(ids, await rows_of(own_postgres.url), [])


async def replayed(servers: dict) -> dict[str, int]:
    """The result of a replay of all letters."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "unlost", "dlq", "replay", servers["directory"] / "a.jsonl", "--json",
        "--redis-url", servers["redis_url"], "--database-url", servers["database_url"],
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, _ = await asyncio.wait_for(process.communicate(), 50)
    assert process.returncode == 0
    report = json.loads(out)["report"]
    return {name: report[name] for name in ("stored", "already_stored", "failed")}
