"""The law, from outside: 20,000 events, a tenth of them sent twice, a listener killed, the producer restarted."""

import asyncio
import json
import time
from collections.abc import Iterator

import asyncpg
import httpx
import pytest

from tests.support.system import running_system
from unlost.ops.system.layout import executable
from unlost.ops.system.system import System

EVENTS = 20_000
BATCH = 1_000


@pytest.fixture
def system() -> Iterator[System]:
    with running_system(listeners=2, lease="3", handle_delay="0.1", insert_delay="0.1") as running:
        yield running


def lines(start: int, count: int) -> bytes:
    return b"".join(
        json.dumps({"event_id": f"order-{n}", "type": "order", "payload": {"n": n}}).encode() + b"\n"
        for n in range(start, start + count)
    )


async def publish(client: httpx.AsyncClient, body: bytes, **params: str) -> list[dict]:
    """Publish a batch until the producer has answered for all of it."""
    deadline = time.monotonic() + 20
    while True:
        try:
            response = await client.post("/publish/batch", content=body, params=params)
            response.raise_for_status()
            return [json.loads(line) for line in response.content.splitlines()]
        except httpx.TransportError:
            if time.monotonic() > deadline:
                raise


async def rows_in(database_url: str) -> int:
    connection = await asyncpg.connect(database_url)
    try:
        return await connection.fetchval("select count(*) from unlost.events")
    finally:
        await connection.close()


async def until_rows(database_url: str, count: int) -> None:
    async with asyncio.timeout(50):
        while await rows_in(database_url) < count:  # noqa: ASYNC110  rows of other processes: no fact to wait for
            await asyncio.sleep(0.1)


async def audit(system: System, *, code: int = 0) -> dict:
    process = await asyncio.create_subprocess_exec(
        executable("unlost"), "audit", "--json", *map(str, system.layout.letter_files),
        "--producer-url", system.layout.producer_url, "--database-url", system.postgres.url,
        "--listeners", ",".join(system.layout.listener_urls), stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, _ = await process.communicate()
    assert process.returncode == code, out.decode()
    return json.loads(out)


@pytest.mark.timeout(120)
async def test_each_event_is_a_row_exactly_once_whoever_is_killed(system: System):
    async with httpx.AsyncClient(base_url=system.layout.producer_url, timeout=20, trust_env=False) as client:
        for start in range(0, EVENTS, BATCH):
            if start == EVENTS // 4:
                system.listeners[0].kill()
            if start == EVENTS // 2:
                await asyncio.to_thread(system.producer.stop)
                system.producer.start()
            if start == EVENTS * 3 // 4:
                system.listeners[0].start()
            answers = await publish(client, lines(start, BATCH))
            assert {answer["status"] for answer in answers} <= {"accepted", "duplicate"}
            await publish(client, lines(start, BATCH // 10), redeliver="true")
        await until_rows(system.postgres.url, EVENTS)
    account = await audit(system)
    assert (account["missing"], account["doubled"]) == (0, 0)
    assert account["accepted"] == account["rows"] == EVENTS
    assert account["redelivered"] == EVENTS // 10, "each further entry in the journal counts separately"
    assert await rows_in(system.postgres.url) == EVENTS
