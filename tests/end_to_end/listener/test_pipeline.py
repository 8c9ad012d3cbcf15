"""A listener between a foreign source and real servers: every way that an event can take."""

import asyncio
import contextlib
import json
import time
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from redis.asyncio import Redis

from tests.support.cutting_proxy import CuttingProxy
from tests.support.listeners import rows_of, running_listener
from tests.support.source import running_source
from unlost.dlq.record.file import read_letters
from unlost.listener.claims.redis.script import Script
from unlost.listener.core.delivery import Delivery
from unlost.listener.core.errors import Reject
from unlost.listener.core.facts import (
    EventBuried,
    EventsClaimed,
    EventsDuplicate,
    EventsStandBy,
    EventsStored,
    EventsTakenOver,
    HandlerRan,
    PlacesDeclared,
    SourceConnected,
)

RUNS: list[tuple[str, int]] = []
GO_ON = asyncio.Event()
FROZEN = 2.0


@pytest.fixture
def servers(redis_url: str, database_url: str, tmp_path: Path) -> dict:
    RUNS.clear()
    GO_ON.clear()
    return {"redis_url": redis_url, "database_url": database_url, "directory": tmp_path}


async def note(event: Delivery) -> None:
    RUNS.append((event.event_id, event.attempt))


async def fail_twice(event: Delivery) -> None:
    RUNS.append((event.event_id, event.attempt))
    if event.attempt < 3:
        raise ConnectionError("the warehouse does not answer")


async def fail(event: Delivery) -> None:
    RUNS.append((event.event_id, event.attempt))
    raise ValueError(f"no such order {event.event_id}")


async def refuse(event: Delivery) -> None:
    RUNS.append((event.event_id, event.attempt))
    raise Reject("we do not sell that")


async def hang(event: Delivery) -> None:
    RUNS.append((event.event_id, event.attempt))
    await asyncio.Event().wait()


async def hang_on_e0(event: Delivery) -> None:
    RUNS.append((event.event_id, event.attempt))
    if event.event_id == "e0":
        await GO_ON.wait()


async def freeze_once(event: Delivery) -> None:
    """Block the whole process past its lease, as SIGSTOP does, but only in the very first run."""
    RUNS.append((event.event_id, event.attempt))
    if len(RUNS) == 1:
        time.sleep(FROZEN)  # noqa: ASYNC251  the fault to test


async def freeze_once_with_row(event: Delivery, connection) -> None:
    await connection.execute("insert into effects values ($1)", event.event_id)
    await freeze_once(event)


def in_a_thread(event: Delivery) -> None:
    RUNS.append((event.event_id, event.attempt))


async def with_row(event: Delivery, connection) -> None:
    RUNS.append((event.event_id, event.attempt))
    await connection.execute("insert into effects values ($1)", event.event_id)
    if event.payload == "bad" and event.attempt < 3:
        raise ConnectionError("after the effect")


async def create_effects(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    await connection.execute("create table effects (event_id text)")
    await connection.close()


def handler(function) -> str:
    return f"{__name__}:{function.__name__}"


def frame(event_id: str, payload: object = 1, **fields: object) -> str:
    return json.dumps({"event_id": event_id, "payload": payload, **fields})


def letters(directory: Path, name: str = "a") -> list:
    path = directory / f"{name}.jsonl"
    return [one.letter for one in read_letters(path)] if path.exists() else []


async def test_events_without_a_handler_become_rows_once_each(servers: dict):
    async with running_source() as source, running_listener(ws_url=source.url, **servers) as one:
        await source.wait_for_clients(1)
        await source.send(*(frame(f"e{i}", {"n": i}, type="t", region="eu") for i in range(500)))
        await source.send(*(frame(f"e{i}", {"n": i}, type="t", region="eu") for i in range(100)))
        await one.heard.until(lambda h: len(h.ids(EventsStored)) == 500 and len(h.ids(EventsDuplicate)) == 100)
    rows = await rows_of(servers["database_url"])
    assert len(rows) == 500
    assert json.loads(rows[0]["payload"]) == {"n": 0}
    assert (rows[0]["type"], json.loads(rows[0]["other"])) == ("t", {"region": "eu"})


async def test_one_of_two_listeners_stores_and_the_other_sees_it_settled(servers: dict):
    async with (
        running_source() as source,
        running_listener(ws_url=source.url, **servers) as one,
        running_listener(ws_url=source.url, **servers, instance_id="b") as two,
    ):
        await source.wait_for_clients(2)
        await source.send(*(frame(f"e{i}") for i in range(200)))
        await one.heard.until(lambda h: h.ended == 200)
        await two.heard.until(lambda h: h.ended == 200)
        assert len(one.heard.ids(EventsStored)) + len(two.heard.ids(EventsStored)) == 200
    assert len(await rows_of(servers["database_url"])) == 200


async def test_bad_frames_become_one_letter_of_all_listeners_and_the_connection_lives(servers: dict):
    bad: list[str | bytes] = [
        "no json",
        "[1]",
        '{"event_id":"x","payload":"\\u0000"}',
        b"\x00\xff",
        '{"event_id":"d","a":1,"a":2}',
    ]
    async with (
        running_source() as source,
        running_listener(ws_url=source.url, **servers) as one,
        running_listener(ws_url=source.url, **servers, instance_id="b") as two,
    ):
        await source.wait_for_clients(2)
        await source.send(*bad, frame("good"))
        for listener in (one, two):
            await listener.heard.until(
                lambda h: len(h.of(EventBuried)) + len(h.ids(EventsStored)) + len(h.ids(EventsDuplicate)) == 6
            )
            assert len(listener.heard.of(SourceConnected)) == 1
    written = letters(servers["directory"]) + letters(servers["directory"], "b")
    assert [letter.reason for letter in written] == ["invalid"] * 5
    assert {letter.raw for letter in written} == {b if isinstance(b, bytes) else b.encode() for b in bad}


async def test_a_row_that_postgres_refuses_is_buried_alone(servers: dict):
    frames = [frame(f"e{i}") for i in range(100)]
    frames.insert(50, '{"event_id":"bad","payload":1e200000}')
    async with running_source() as source, running_listener(ws_url=source.url, **servers) as one:
        await source.wait_for_clients(1)
        await source.send(*frames)
        await one.heard.until(lambda h: len(h.ids(EventsStored)) == 100 and len(h.of(EventBuried)) == 1)
    (letter,) = letters(servers["directory"])
    assert (letter.event_id, letter.reason, letter.error_class) == ("bad", "rejected", "permanent")
    assert letter.sqlstate == "22003"


async def test_the_same_id_with_other_content_is_a_conflict_and_another_spelling_is_not(servers: dict):
    async with running_source() as source, running_listener(ws_url=source.url, **servers) as one:
        await source.wait_for_clients(1)
        await source.send('{"event_id":"e","payload":{"a":1,"b":2}}')
        await one.heard.until(lambda h: h.ids(EventsStored) == ["e"])
        await source.send('{"payload": {"b": 2, "a": 1.0}, "event_id": "e"}', '{"event_id":"e","payload":{"a":3}}')
        await one.heard.until(lambda h: h.ids(EventsDuplicate) == ["e"] and len(h.of(EventBuried)) == 1)
    (letter,) = letters(servers["directory"])
    assert (letter.event_id, letter.reason) == ("e", "conflict")
    assert json.loads(letter.event)["payload"] == {"a": 3}


@pytest.mark.parametrize("function", [note, in_a_thread, with_row])
async def test_a_handler_of_each_form_runs_once_for_each_event(servers: dict, function):
    await create_effects(servers["database_url"])
    async with (
        running_source() as source,
        running_listener(ws_url=source.url, **servers, handler=handler(function)) as one,
    ):
        await source.wait_for_clients(1)
        await source.send(*(frame(f"e{i}") for i in range(50)), *(frame(f"e{i}") for i in range(50)))
        await one.heard.until(lambda h: len(h.ids(EventsStored)) == 50 and len(h.ids(EventsDuplicate)) == 50)
    assert sorted(RUNS) == sorted((f"e{i}", 1) for i in range(50))


async def test_a_handler_that_fails_is_tried_again_and_then_stored(servers: dict):
    async with (
        running_source() as source,
        running_listener(ws_url=source.url, **servers, handler=handler(fail_twice)) as one,
    ):
        await source.wait_for_clients(1)
        await source.send(frame("e"))
        await one.heard.until(lambda h: h.ids(EventsStored) == ["e"])
    assert RUNS == [("e", 1), ("e", 2), ("e", 3)]
    (row,) = await rows_of(servers["database_url"])
    assert row["attempts"] == 3


async def test_a_handler_that_never_succeeds_ends_in_a_letter_with_every_attempt(servers: dict):
    async with (
        running_source() as source,
        running_listener(ws_url=source.url, **servers, handler=handler(fail)) as one,
    ):
        await source.wait_for_clients(1)
        await source.send(frame("e"))
        await one.heard.until(lambda h: len(h.of(EventBuried)) == 1)
    (letter,) = letters(servers["directory"])
    assert (letter.reason, letter.error_class, letter.error_type) == ("exhausted", "transient", "ValueError")
    assert [attempt.message for attempt in letter.attempts] == ["no such order e"] * 3
    assert await rows_of(servers["database_url"]) == []


async def test_reject_is_never_tried_again(servers: dict):
    async with (
        running_source() as source,
        running_listener(ws_url=source.url, **servers, handler=handler(refuse)) as one,
    ):
        await source.wait_for_clients(1)
        await source.send(frame("e"))
        await one.heard.until(lambda h: len(h.of(EventBuried)) == 1)
    assert RUNS == [("e", 1)]
    (letter,) = letters(servers["directory"])
    assert (letter.reason, letter.error_class, letter.message) == ("rejected", "permanent", "we do not sell that")


async def test_a_handler_that_hangs_is_ended_at_its_time_limit(servers: dict):
    async with (
        running_source() as source,
        running_listener(ws_url=source.url, **servers, handler=handler(hang), handle_timeout="0.1") as one,
    ):
        await source.wait_for_clients(1)
        await source.send(frame("e"))
        await one.heard.until(lambda h: len(h.of(EventBuried)) == 1)
        assert len(one.heard.of(HandlerRan)) == 3
    assert "longer than 0.1 s" in letters(servers["directory"])[0].message


async def test_a_failed_transaction_leaves_no_effect_and_a_later_one_exactly_one(servers: dict):
    await create_effects(servers["database_url"])
    async with (
        running_source() as source,
        running_listener(ws_url=source.url, **servers, handler=handler(with_row)) as one,
    ):
        await source.wait_for_clients(1)
        await source.send(frame("e", "bad"))
        await one.heard.until(lambda h: h.ids(EventsStored) == ["e"])
    assert len(RUNS) == 3
    connection = await asyncpg.connect(servers["database_url"])
    assert await connection.fetchval("select count(*) from effects") == 1
    await connection.close()


@contextlib.asynccontextmanager
async def owner_and_standby(servers: dict, **settings: str):
    """Listener a hangs in its handler on the event "e", and listener b stands by."""
    async with contextlib.AsyncExitStack() as stack:
        source = await stack.enter_async_context(running_source())
        same = {"ws_url": source.url, **servers, **settings}
        one = await stack.enter_async_context(running_listener(**same, handler=handler(hang)))
        await source.wait_for_clients(1)
        await source.send(frame("e"))
        await one.heard.until(lambda h: h.ids(EventsClaimed) == ["e"])
        two = await stack.enter_async_context(
            running_listener(**same, instance_id="b", handler=handler(note), handler_change="yes")
        )
        await source.wait_for_clients(2)
        await source.send(frame("e"))
        await two.heard.until(lambda h: h.ids(EventsStandBy)[:1] == ["e"])
        yield one, two


async def test_a_standby_takes_over_when_the_owner_dies(servers: dict):
    async with owner_and_standby(servers) as (one, two):
        await one.crash()
        await two.heard.until(lambda h: h.ids(EventsStored) == ["e"])
        assert two.heard.ids(EventsTakenOver) == ["e"]
    (row,) = await rows_of(servers["database_url"])
    assert (row["instance_id"], row["epoch"]) == ("b", 2)


async def test_an_orderly_stop_gives_claims_back_at_once_and_counts_no_takeover(servers: dict):
    async with owner_and_standby(servers, shutdown_timeout="0.1", lease="60", source_resumes="yes") as (one, two):
        await one.stop()
        await two.heard.until(lambda h: h.ids(EventsStored) == ["e"])
        assert two.heard.ids(EventsTakenOver) == []


@pytest.mark.parametrize("form", ["", handler(with_row)])
async def test_a_row_whose_every_reply_was_lost_is_no_letter(servers: dict, form: str):
    await create_effects(servers["database_url"])
    async with CuttingProxy(servers["database_url"]) as wire, running_source() as source:
        wired = {**servers, "database_url": wire.url, "insert_attempts": "1", "handle_attempts": "1"}
        async with running_listener(ws_url=source.url, **wired, handler=form) as one:
            await source.wait_for_clients(1)
            wire.cut_reply(b"COMMIT" if form else b"lost-reply")
            await source.send(frame("lost-reply"))
            await one.heard.until(lambda h: h.ids(EventsDuplicate) == ["lost-reply"])
            assert wire.cuts == 1
    assert len(await rows_of(servers["database_url"])) == 1
    assert letters(servers["directory"]) == []


async def test_a_drain_gives_back_at_once_what_has_not_begun(servers: dict):
    same = {**servers, "lease": "60", "shutdown_timeout": "30", "source_resumes": "yes"}
    async with running_source() as source:
        running = running_listener(ws_url=source.url, **same, handler=handler(hang_on_e0), handle_concurrency="1")
        next_one = running_listener(
            ws_url=source.url, **same, handler=handler(note), handler_change="yes", instance_id="b"
        )
        async with running as one, contextlib.AsyncExitStack() as later:
            await source.wait_for_clients(1)
            await source.send(*(frame(f"e{i}") for i in range(4)))
            await one.heard.until(lambda h: len(h.ids(EventsClaimed)) == 4)
            two = await later.enter_async_context(next_one)
            await source.wait_for_clients(2)
            await source.send(*(frame(f"e{i}") for i in range(4)))
            await two.heard.until(lambda h: len(set(h.ids(EventsStandBy))) == 4)
            one.daemon.stop()
            await two.heard.until(lambda h: set(h.ids(EventsStored)) == {"e1", "e2", "e3"})
            assert not one.task.done(), "running handlers may finish"
            assert two.heard.ids(EventsTakenOver) == []
            GO_ON.set()
            await asyncio.wait_for(one.task, 20)
    assert len(await rows_of(servers["database_url"])) == 4
    assert len(RUNS) == 4


async def test_a_claim_under_way_when_a_drain_begins_is_given_back(servers: dict):
    async with CuttingProxy(servers["redis_url"]) as wire, running_source() as source:
        same = {**servers, "lease": "60", "redis_timeout": "5", "source_resumes": "yes"}
        running = running_listener(
            ws_url=source.url, **{**same, "redis_url": wire.url}, handler=handler(hang_on_e0), shutdown_timeout="0"
        )
        async with running as one:
            await source.wait_for_clients(1)
            await source.send(frame("first"))
            await one.heard.until(lambda h: h.ids(EventsStored) == ["first"])
            wire.hold_reply(Script("prelude.lua", "claim.lua").sha.encode())
            await source.send(frame("e0"))
            await asyncio.wait_for(wire.held.wait(), 20)
            one.daemon.stop()
            while one.health["phase"] != "draining":  # noqa: ASYNC110  no fact reports it
                await asyncio.sleep(0)
            wire.pass_again()
            await asyncio.wait_for(one.task, 20)
        async with running_listener(
            ws_url=source.url, **same, handler=handler(note), handler_change="yes", instance_id="b"
        ) as two:
            await source.wait_for_clients(1)
            await source.send(frame("e0"))
            await two.heard.until(lambda h: h.ids(EventsStored) == ["e0"], seconds=10)
            assert two.heard.ids(EventsTakenOver) == []


async def test_a_waiting_event_whose_lease_ran_out_is_claimed_again(servers: dict):
    quick: dict[str, Any] = {"lease": "1", "handle_concurrency": "1", "handler": handler(freeze_once)}
    async with running_source() as source, running_listener(ws_url=source.url, **servers, **quick) as one:
        await source.wait_for_clients(1)
        await source.send(frame("e0"), frame("e1"))
        await one.heard.until(lambda h: set(h.ids(EventsStored)) | set(h.ids(EventsDuplicate)) == {"e0", "e1"})
    assert [row["event_id"] for row in await rows_of(servers["database_url"])] == ["e0", "e1"]


async def test_a_handler_that_wakes_after_its_lease_commits_nothing(servers: dict):
    await create_effects(servers["database_url"])
    quick: dict[str, Any] = {"lease": "1", "handler": handler(freeze_once_with_row)}
    async with running_source() as source, running_listener(ws_url=source.url, **servers, **quick) as one:
        await source.wait_for_clients(1)
        await source.send(frame("e0"))
        await one.heard.until(lambda h: h.ids(EventsStored) == ["e0"])
    assert len(RUNS) == 2, "the first run's transaction was rolled back, and the event was claimed again"
    connection = await asyncpg.connect(servers["database_url"])
    assert await connection.fetchval("select count(*) from effects") == 1
    await connection.close()


async def test_without_redis_events_go_on_and_come_back_to_it(servers: dict, own_valkey):
    servers["redis_url"] = own_valkey.url
    async with (
        running_source() as source,
        running_listener(ws_url=source.url, **servers, handler=handler(note)) as one,
        running_listener(ws_url=source.url, **servers, instance_id="b", handler=handler(note)) as two,
    ):
        await source.wait_for_clients(2)
        await source.send(*(frame(f"e{i}") for i in range(50)))
        await asyncio.to_thread(own_valkey.stop)
        await source.send(*(frame(f"f{i}") for i in range(50)))
        await one.heard.until(lambda _: len({e for e, _ in RUNS}) == 100)
        assert one.health["mode"] == "degraded"
        await asyncio.to_thread(own_valkey.start)
        for each in (one, two):
            await each.heard.until(lambda h: h.of(PlacesDeclared)[-1].degraded is False)
        await source.send(*(frame(f"g{i}") for i in range(50)))
        await one.heard.until(lambda _: len({e for e, _ in RUNS}) == 150)
    assert len(await rows_of(servers["database_url"])) == 150
    assert len(RUNS) == 150, "a handler ran twice although no process was killed"


async def test_a_redis_that_changes_its_password_is_as_good_as_none(servers: dict, own_valkey):
    servers["redis_url"] = own_valkey.url
    async with running_source() as source, running_listener(ws_url=source.url, **servers) as one:
        await source.wait_for_clients(1)
        await one.heard.until(lambda h: bool(h.of(PlacesDeclared)))
        async with Redis.from_url(own_valkey.url, single_connection_client=True) as admin:
            await admin.config_set("requirepass", "another")
            await admin.client_kill_filter(_type="normal", skipme=True)
        await one.heard.until(lambda h: h.of(PlacesDeclared)[-1].degraded)
        await source.send(frame("e"))
        await one.heard.until(lambda h: h.ids(EventsStored) == ["e"])


async def test_a_link_to_the_dead_letter_file_leads_to_the_same_lock_and_sidecar(servers: dict):
    directory: Path = servers["directory"]
    link = directory / "link.jsonl"
    link.symlink_to(directory / "file.jsonl")
    async with (
        running_source() as source,
        running_listener(ws_url=source.url, **servers, dead_letter_file=str(link)) as one,
    ):
        await source.wait_for_clients(1)
        await source.send("no event")
        await one.heard.until(lambda h: len(h.of(EventBuried)) == 1)
    found = {one.name for one in await asyncio.to_thread(lambda: list(directory.iterdir()))}
    assert found >= {"file.jsonl", "file.jsonl.writer", "link.jsonl"}
    assert "link.jsonl.writer" not in found
