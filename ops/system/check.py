"""Proves that a fresh system works: publish some hundred events, then verify how each of them ended."""

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path

import asyncpg
import httpx

from unlost.listener.store.postgres.reports import Reports
from unlost.ops.system.layout import Layout

SINGLE, BATCH, REDELIVERED = 100, 300, 60
SETTLED_WITHIN = 60.0


async def verified(layout: Layout, database_url: str, say: Callable[[str], None]) -> list[str]:
    """Publish, wait, verify; return a sentence for each failure, or an empty list."""
    problems: list[str] = []
    single = [_event(f"check-single-{number}", number) for number in range(SINGLE)]
    batch = [_event(f"check-batch-{number}", number) for number in range(BATCH)]
    async with httpx.AsyncClient(base_url=layout.producer_url, timeout=15, trust_env=False) as client:
        for one in single:
            _expect(problems, await client.post("/publish", json=one), 202)
        say(f"published {SINGLE} events one by one")
        lines = "".join(json.dumps(one) + "\n" for one in batch)
        response = await client.post(
            "/publish/batch", content=lines, headers={"content-type": "application/x-ndjson"}, timeout=30
        )
        _expect(problems, response, 200, 202, 207)
        say(f"published {BATCH} events as a batch")
        _expect(problems, await client.post("/publish", json=single[0]), 409)
        _expect(problems, await client.post("/publish", json={**single[0], "payload": {"other": 1}}), 409)
        for one in (*single, *batch)[-REDELIVERED:]:
            _expect(problems, await client.post("/publish", params={"redeliver": "true"}, json=one), 200, 202)
        say(f"sent {REDELIVERED} of them once more")
    expected = {str(one["event_id"]): one["payload"] for one in (*single, *batch)}
    stored = await _stored(database_url, expected)
    say(f"{len(stored)} rows in the database")
    return [*problems, *_compare(expected, stored), *(_letters(file) for file in layout.letter_files if _letters(file))]


def _event(event_id: str, number: int) -> dict[str, object]:
    return {"event_id": event_id, "type": "check", "payload": {"number": number, "text": "ünlost ✓"}}


def _expect(problems: list[str], response: httpx.Response, *statuses: int) -> None:
    if response.status_code not in statuses:
        wanted = " or ".join(map(str, statuses))
        problems.append(
            f"{response.request.url} answered {response.status_code}, {wanted} expected: {response.text[:200]}"
        )


async def _stored(database_url: str, expected: dict[str, object]) -> list[tuple[str, object]]:
    """Return all rows once there are as many as expected, or when the time is up."""
    connection = await asyncpg.connect(database_url, timeout=10)
    reports = Reports(connection, timeout=10)
    try:
        deadline = time.monotonic() + SETTLED_WITHIN
        while True:
            rows = await reports.contents()
            if len(rows) >= len(expected) or time.monotonic() > deadline:
                return [(event_id, json.loads(payload)) for event_id, payload in rows]
            await asyncio.sleep(0.1)
    finally:
        await connection.close(timeout=5)


def _compare(expected: dict[str, object], stored: list[tuple[str, object]]) -> list[str]:
    problems = []
    ids = [event_id for event_id, _ in stored]
    if missing := sorted(expected.keys() - set(ids)):
        problems.append(f"{len(missing)} events have no row: {', '.join(missing[:10])}")
    if doubled := len(ids) - len(set(ids)):
        problems.append(f"{doubled} rows are there twice")
    if strange := sorted(set(ids) - expected.keys()):
        problems.append(f"rows that nobody published: {', '.join(strange[:10])}")
    if changed := sorted(event_id for event_id, payload in stored if expected.get(event_id, payload) != payload):
        problems.append(f"payloads that changed on the way: {', '.join(changed[:10])}")
    return problems


def _letters(file: Path) -> str:
    try:
        lines = file.read_text().splitlines()
    except FileNotFoundError:
        return ""
    return f"{file} holds {len(lines)} dead letters, the first: {lines[0][:300]}" if lines else ""
