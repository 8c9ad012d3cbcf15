"""Handlers that leave their transaction, or raise what ends a process: a letter says so, and the listener goes on."""

import asyncio
import json
from pathlib import Path

import asyncpg
import httpx
import pytest

from tests.end_to_end.test_law import until_rows
from tests.support.listeners import rows_of, running_listener
from tests.support.source import running_source
from tests.support.system import running_system
from unlost.dlq.record.file import read_letters
from unlost.dlq.record.letter import Letter
from unlost.dlq.record.sidecar import states
from unlost.listener.core.delivery import Delivery
from unlost.listener.core.facts import EventBuried, EventsStored, LettersResolved
from unlost.listener.store.postgres.connections import Connection

RUNS: list[str] = []


@pytest.fixture
def servers(redis_url: str, database_url: str, tmp_path: Path) -> dict:
    RUNS.clear()
    return {"redis_url": redis_url, "database_url": database_url, "directory": tmp_path}


async def obey(event: Delivery, connection: Connection) -> None:
    """Run the statements in the payload."""
    RUNS.append(event.event_id)
    for statement in event.payload:
        await connection.execute(statement)


async def leave_the_process(event: Delivery) -> None:
    RUNS.append(event.event_id)
    if event.event_id == "bad":
        raise SystemExit(3)


def frame(event_id: str, payload: object) -> str:
    return json.dumps({"event_id": event_id, "payload": payload})


def letters(servers: dict) -> dict[str, Letter]:
    path = servers["directory"] / "a.jsonl"
    return {one.letter.event_id: one.letter for one in read_letters(path)}  # type: ignore[misc]


async def test_a_handler_that_leaves_its_transaction_ends_as_a_letter_after_one_attempt(servers: dict) -> None:
    """Each further attempt would commit its effect again. If it committed our row, too, the row stays."""
    effect = "insert into side_effects values ('e')"
    connection = await asyncpg.connect(servers["database_url"])
    await connection.execute("create table side_effects (event_id text)")
    async with (
        running_source() as source,
        running_listener(ws_url=source.url, **servers, handler=f"{__name__}:obey") as one,
    ):
        await source.wait_for_clients(1)
        await source.send(
            frame("good", [effect]),
            frame("rolled back", ["rollback", "begin", effect]),
            frame("by itself", ["rollback", effect]),
            frame("committed", [effect, "commit", "begin", effect]),
        )
        await one.heard.until(lambda heard: len(heard.of(EventBuried)) == 3 and heard.ids(EventsStored) == ["good"])
        await one.heard.until(lambda heard: len(heard.of(LettersResolved)) == 1)
    assert sorted(RUNS) == ["by itself", "committed", "good", "rolled back"], "one attempt each"
    assert {row["event_id"] for row in await rows_of(servers["database_url"])} == {"good", "committed"}
    assert await connection.fetchval("select count(*) from side_effects") == 3, "all but the one rolled back"
    await connection.close()
    found = letters(servers)
    assert {(one.reason, one.error_type, len(one.attempts)) for one in found.values()} == {
        ("rejected", "TransactionLeft", 1)
    }
    assert {one.letter_id for one in found.values() if one.event_id == "committed"} == {
        id_ for id_, state in states(servers["directory"] / "a.jsonl").items() if state.status == "resolved"
    }


async def test_a_handler_that_would_end_the_process_fails_its_attempts(servers: dict) -> None:
    async with (
        running_source() as source,
        running_listener(ws_url=source.url, **servers, handler=f"{__name__}:leave_the_process") as one,
    ):
        await source.wait_for_clients(1)
        await source.send(frame("bad", 1), frame("good", 1))
        await one.heard.until(lambda heard: len(heard.of(EventBuried)) == 1)
        await source.send(frame("next", 1))
        await one.heard.until(lambda heard: set(heard.ids(EventsStored)) == {"good", "next"})
    assert [(one.reason, one.error_type, len(one.attempts)) for one in letters(servers).values()] == [
        ("exhausted", "SystemExit", 3)
    ]


@pytest.mark.timeout(90)
async def test_a_task_that_calls_sys_exit_ends_no_process() -> None:
    """In a separate process: what ends a loop would end the test's loop, too. Whoever awaits such a task has failed."""
    handler = "tests.support.handlers:starts_what_exits"
    with running_system(listeners=1, handler=handler, handle_attempts="1", lease="3") as system:
        (listener,) = system.listeners
        pid = listener.pid
        body = "\n".join(frame(name, 1) for name in ("awaited", *(f"e{number}" for number in range(50))))
        async with httpx.AsyncClient(base_url=system.layout.producer_url, trust_env=False) as client:
            (await client.post("/publish/batch", content=body)).raise_for_status()
        await until_rows(system.postgres.url, 50)
        (path,) = system.layout.letter_files
        async with asyncio.timeout(20):
            while not (path.exists() and path.stat().st_size):  # noqa: ASYNC110  another process writes it
                await asyncio.sleep(0.05)
        (letter,) = [one.letter for one in read_letters(path)]
        assert (letter.event_id, letter.reason, letter.error_type) == ("awaited", "exhausted", "SystemExit")
        assert (listener.pid, listener.is_running) == (pid, True)
        assert await asyncio.to_thread(listener.stop) == 0
