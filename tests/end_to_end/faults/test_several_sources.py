"""A listener that reads several sources: each has its own cursor and health, and none holds another up."""

from typing import Any

import asyncpg

from tests.end_to_end.faults.conftest import frame, letters
from tests.support.handlers import HOLD, RUNS
from tests.support.listeners import rows_of, running_listener
from tests.support.source import running_source
from unlost.listener.core.facts import EventsDuplicate, EventsStored, SourceConnected, SourceLost


async def test_one_that_is_away_holds_no_other_up_and_each_keeps_its_own_place(servers: dict):
    async with running_source() as first, running_source() as second:
        first.headers = {"unlost-oldest": "a.0", "unlost-cursor": "a.9"}
        second.headers = {"unlost-oldest": "b.0", "unlost-cursor": "b.9"}
        both = f"{first.url} {second.url}"
        async with running_listener(ws_url="ws://127.0.0.1:9/", source=both, **servers) as one:
            await one.heard.until(lambda h: len(h.of(SourceConnected)) == 2)
            await first.send(frame("one", "x", cursor="a.1"))
            await second.send(frame("two", "y", cursor="b.1"), frame("one", "x", cursor="b.2"))
            await one.heard.until(lambda h: set(h.ids(EventsStored)) == {"one", "two"})
            await one.heard.until(lambda h: h.ids(EventsDuplicate) == ["one"])
            await first.stop()
            await one.heard.until(lambda h: bool(h.of(SourceLost)))
            await second.send(frame("three", "z", cursor="b.3"))
            await one.heard.until(lambda h: "three" in h.ids(EventsStored))
            health = one.health
            assert [(picture["name"], picture["connected"]) for picture in health["sources"]] == [
                (first.url, False), (second.url, True)
            ]  # fmt: skip
            (reason,) = [said for said in health["reasons"] if said.startswith("source:")]
            assert first.url in reason
            assert second.url not in reason
    connection = await asyncpg.connect(servers["database_url"])
    try:
        saved = await connection.fetch("select source, cursor from unlost.cursors order by cursor")
    finally:
        await connection.close()
    assert [tuple(one) for one in saved] == [(first.url, "a.1"), (second.url, "b.3")]
    assert [row["event_id"] for row in await rows_of(servers["database_url"])] == ["one", "three", "two"]


async def test_a_stop_writes_letters_for_the_events_of_the_source_that_cannot_resume_alone(servers: dict):
    RUNS.forget()
    held = {"handler": HOLD, "handle_concurrency": "1", "shutdown_timeout": "0.3"}
    async with running_source() as ours, running_source() as foreign:
        ours.headers = {"unlost-oldest": "a.0", "unlost-cursor": "a.9"}
        both: dict[str, Any] = {"ws_url": "ws://127.0.0.1:9/", "source": f"{ours.url} {foreign.url}"}
        async with running_listener(**both | servers | held) as one:
            await one.heard.until(lambda h: len(h.of(SourceConnected)) == 2)
            await ours.send(*[frame(f"held-ours{n}", n, cursor=f"a.{n + 1}") for n in range(5)])
            await foreign.send(*[frame(f"held-foreign{n}", n) for n in range(5)])
            await one.heard.until(lambda _: one.health["in_memory"] == 10)
        stopped = letters(servers["directory"], "a")
        assert {one.event_id for one in stopped} == {f"held-foreign{n}" for n in range(5)}
        assert {one.reason for one in stopped} == {"stopped"}
        RUNS.go_on.set()
        ours.headers |= {"unlost-cursor": "a.5"}
        async with running_listener(**both | servers | held) as one:
            await one.heard.until(lambda h: len(h.of(SourceConnected)) == 2)
            await ours.send(*[frame(f"held-ours{n}", n, cursor=f"a.{n + 1}") for n in range(5)])
            await one.heard.until(lambda h: len(h.ids(EventsStored)) == 10, 30)
    expected = [f"held-foreign{n}" for n in range(5)] + [f"held-ours{n}" for n in range(5)]
    assert [row["event_id"] for row in await rows_of(servers["database_url"])] == expected
