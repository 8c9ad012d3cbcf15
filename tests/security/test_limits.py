"""Limits of each identity on a running producer, and one identity that floods others."""

import asyncio
import time
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from tests.end_to_end.producer.conftest import RunningProducer
from tests.security.conftest import Tokens

PACE, SECONDS, FLOODERS = 0.02, 0.5, 12
LINES = b"".join(b'{"event_id":"%%s-%d","payload":{}}\n' % number for number in range(1_000))


def publish(guarded: RunningProducer, tokens: Tokens, name: str, event_id: str) -> httpx.Response:
    event = {"event_id": f"{event_id}-{guarded.settings['FAST']}", "payload": {}}
    return guarded.http.post("/publish", json=event, headers=tokens.bearer(name))


def test_too_many_events_are_refused_until_they_may_come(guarded: RunningProducer, tokens: Tokens):
    answers = (publish(guarded, tokens, "slow", f"slow-{number}") for number in range(100))
    assert [next(answers).status_code for _ in range(5)] == [202] * 5
    late = next(one for one in answers if one.status_code == 429)
    assert late.json()["status"] == "too_many_requests"
    assert "slow publishes more than its limit" in late.json()["error"]
    assert int(late.headers["retry-after"]) >= 1
    assert publish(guarded, tokens, "shop", "not-slow").status_code == 202
    metrics = guarded.http.get("/metrics", headers=tokens.bearer("reader")).text
    assert 'unlost_refused_requests_total{reason="rate"} 0.0' not in metrics


def test_a_batch_beyond_the_limit_is_slowed_down_and_not_lost(guarded: RunningProducer, tokens: Tokens):
    lines = b"".join(b'{"event_id":"heavy-%d","payload":"%b"}\n' % (n, b"x" * 1_000) for n in range(2_500))
    began = time.monotonic()
    answer = guarded.http.post("/publish/batch", content=lines, headers=tokens.bearer("heavy"))
    assert answer.status_code == 200
    assert len(answer.text.splitlines()) == 2_500
    assert time.monotonic() - began > 0.4, "a part of it waits for the part before"
    # Each is worth two thirds of a second. A slow machine may need as long for one of them, not for every one.
    one = b'{"event_id":"heavy","payload":"%b"}\n' % (b"x" * 1_000_000)
    again = (guarded.http.post("/publish/batch", content=one, headers=tokens.bearer("heavy")) for _ in range(10))
    assert any(one.status_code == 429 for one in again)


async def test_an_identity_opens_so_many_streams_and_no_more(guarded: RunningProducer, tokens: Tokens):
    mine: dict[str, Any] = {"additional_headers": tokens.bearer("one-stream"), "proxy": None}
    async with connect(guarded.stream, **mine):
        with pytest.raises(InvalidStatus) as refused:
            await connect(guarded.stream, **mine)
        assert refused.value.response.status_code == 429
        assert int(refused.value.response.headers["retry-after"]) >= 1
        async with connect(guarded.stream, additional_headers=tokens.bearer("reader"), proxy=None):
            pass
    async with asyncio.timeout(5):
        while True:
            try:
                async with connect(guarded.stream, **mine):
                    return
            except InvalidStatus:
                continue


async def test_one_that_floods_leaves_others_their_rate(guarded: RunningProducer, tokens: Tokens):
    async with client(guarded) as flooding, client(guarded) as paced:
        alone = await published(paced, tokens, "alone")
        floods = [asyncio.create_task(flood(flooding, tokens, number)) for number in range(FLOODERS)]
        beside = await published(paced, tokens, "beside")
        for one in floods:
            one.cancel()
        await asyncio.gather(*floods, return_exceptions=True)
    assert beside >= 0.8 * alone, f"{beside} instead of {alone}"


def client(guarded: RunningProducer) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        base_url=guarded.url, trust_env=False, timeout=20, limits=httpx.Limits(max_connections=None)
    )


async def published(client: httpx.AsyncClient, tokens: Tokens, name: str) -> int:
    """How many events of a publisher with a steady pace were accepted, none of them later than after ``SECONDS``."""

    async def one(number: int) -> bool:
        event = {"event_id": f"{name}-{number}", "payload": {}}
        answer = await client.post("/publish", json=event, headers=tokens.bearer("shop"))
        return answer.status_code == 202

    tasks = []
    for number in range(round(SECONDS / PACE)):
        tasks.append(asyncio.create_task(one(number)))
        await asyncio.sleep(PACE)  # the pace is what is measured
    done, late = await asyncio.wait(tasks, timeout=SECONDS)
    for task in late:
        task.cancel()
    return sum([task.result() for task in done])


async def flood(client: httpx.AsyncClient, tokens: Tokens, number: int) -> None:
    turn = 0
    while True:
        turn += 1
        lines = LINES.replace(b"%s", b"flood-%d-%d" % (number, turn))
        await client.post("/publish/batch", content=lines, headers=tokens.bearer("flood"))
