"""A listener answers with CloudEvents where they are asked for."""

import json
from pathlib import Path

import httpx

from tests.support.listeners import running_listener
from tests.support.source import running_source

EVENTS = (
    '{"event_id":"ours","type":"t","payload":{"n":1},"tenant":"a"}',
    '{"event_id":"/shop#7","type":"order","payload":2,"specversion":"1.0","id":"7","source":"/shop"}',
)
OURS = {"specversion": "1.0", "id": "ours", "source": "/unlost", "type": "t", "tenant": "a", "data": {"n": 1}}
THEIRS = {"specversion": "1.0", "id": "7", "source": "/shop", "type": "order", "data": 2}


async def test_rows_are_cloudevents_if_the_request_asks_for_them(
    redis_url: str, database_url: str, tmp_path: Path
) -> None:
    async with (
        running_source() as source,
        running_listener(ws_url=source.url, redis_url=redis_url, database_url=database_url, directory=tmp_path) as one,
    ):
        await source.wait_for_clients(1)
        await source.send(*EVENTS)
        await one.heard.until(lambda heard: heard.ended == len(EVENTS))
        url = f"http://127.0.0.1:{one.daemon.port}/api/events"
        async with httpx.AsyncClient(trust_env=False) as client:
            batch = await client.get(url, headers={"Accept": "application/cloudevents-batch+json"})
            single = await client.get(f"{url}/ours", headers={"Accept": "application/cloudevents+json"})
            usual = await client.get(url)
            described = await client.get(url.replace("/api/events", "/asyncapi.json"))
    assert batch.headers["content-type"] == "application/cloudevents-batch+json"
    assert sorted(batch.json(), key=json.dumps) == sorted([OURS, THEIRS], key=json.dumps)
    assert (single.headers["content-type"], single.json()) == ("application/cloudevents+json", OURS)
    assert set(usual.json()) == {"events", "next", "behind_seconds"}
    assert list(described.json()["operations"]) == ["store"]
