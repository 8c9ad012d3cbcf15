"""Heads, bodies and frames that are nearly right, at a running producer: nobody gets in, and nothing breaks."""

import asyncio
import base64
import contextlib
import json
import os

import msgspec
import pytest
from websockets.asyncio.client import connect

from tests.end_to_end.producer.conftest import RunningProducer
from tests.security.conftest import Tokens
from tests.support.fuzzing import MOST_GROWTH, memory, mutants
from tests.support.raw_http import WITHIN, answer_to, connected, statuses
from unlost.listener.core.errors import InvalidEvent
from unlost.listener.core.event import parse

pytestmark = pytest.mark.timeout(180)  # servers are started
EVENT = json.dumps(
    {"event_id": "e-1", "type": "t", "payload": {"a": [1, 2.5e3, "\u00e9\\u0041", None], "b": {"c": {}}}}
)
LARGEST = 1024 * 1024
A_MOMENT = 0.3
"""How long a server may wait for the rest of a request before the test ends the connection."""


def a_request(path: bytes, token: str, body: bytes) -> bytes:
    lines = (
        b"POST %b HTTP/1.1" % path, b"host: 127.0.0.1", b"authorization: Bearer " + token.encode(),
        b"connection: close", b"content-type: application/json", b"content-length: %d" % len(body),
    )  # fmt: skip
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def in_journal(producer: RunningProducer, tokens: Tokens, event_id: str) -> bool:
    return bool(producer.http.get("/api/journal", params={"event_id": event_id}, headers=tokens.bearer("reader")).text)


async def test_no_head_gets_in_without_a_token(guarded: RunningProducer, tokens: Tokens):
    body = b'{"event_id": "by-head", "payload": {}}'
    before = memory(guarded.process.pid)
    for sent in mutants(a_request(b"/publish", "x" * 40, body)):
        for status in statuses(await answer_to(guarded.url, sent, patience=A_MOMENT)):
            assert 400 <= status < 500, sent
    assert not await asyncio.to_thread(in_journal, guarded, tokens, "by-head")
    assert statuses(await answer_to(guarded.url, a_request(b"/publish", tokens.of["shop"], body))) == [202]
    assert memory(guarded.process.pid) - before < MOST_GROWTH


async def test_a_body_is_an_event_that_every_listener_can_read_or_is_refused(guarded: RunningProducer, tokens: Tokens):
    before = memory(guarded.process.pid)
    accepted = 0
    for body in mutants(EVENT.encode()):
        (status,) = statuses(await answer_to(guarded.url, a_request(b"/publish", tokens.of["shop"], body)))
        try:
            event = parse(body, max_bytes=LARGEST)
        except InvalidEvent:
            assert status in (400, 413, 422), body
        else:
            assert status in (200, 202, 409), (event, body)
            accepted += 1
    assert accepted, "some changes leave an event"
    assert memory(guarded.process.pid) - before < MOST_GROWTH


async def test_every_line_of_a_batch_is_answered_whatever_stands_in_it(guarded: RunningProducer, tokens: Tokens):
    lines = b"\n".join(EVENT.replace("e-1", f"batch-{number}").encode() for number in range(20))
    before = memory(guarded.process.pid)
    for body in mutants(lines):
        answer = await answer_to(guarded.url, a_request(b"/publish/batch", tokens.of["shop"], body))
        (status,) = statuses(answer)
        assert status in (200, 400, 413), body
    assert memory(guarded.process.pid) - before < MOST_GROWTH


def a_frame(payload: bytes) -> bytes:
    """A text frame of a client."""
    mask = os.urandom(4)
    masked = bytes(one ^ mask[at % 4] for at, one in enumerate(payload))
    return bytes([0x81, 0x80 | len(payload)]) + mask + masked


def a_handshake(token: str) -> bytes:
    lines = (
        b"GET / HTTP/1.1", b"host: 127.0.0.1", b"upgrade: websocket", b"connection: Upgrade",
        b"sec-websocket-version: 13", b"sec-websocket-key: " + base64.b64encode(os.urandom(16)),
        b"authorization: Bearer " + token.encode(),
    )  # fmt: skip
    return b"\r\n".join(lines) + b"\r\n\r\n"


async def let_in(url: str, token: str, frame: bytes) -> bool:
    """Send a frame on a stream of its own; return whether the handshake passed. The server ends the connection."""
    async with asyncio.timeout(WITHIN), connected(url) as (reader, writer):
        writer.write(a_handshake(token))
        (status,) = statuses(await reader.readuntil(b"\r\n\r\n"))
        with contextlib.suppress(ConnectionError):
            writer.write(frame)
            writer.write_eof()
            await reader.read()
        return status == 101


async def test_no_frame_breaks_the_stream_or_reports_for_another_group(guarded: RunningProducer, tokens: Tokens):
    url = guarded.stream.replace("ws://", "http://")
    before = memory(guarded.process.pid)
    for sent in mutants(a_frame(msgspec.json.encode({"group": "others"}))):
        assert await let_in(url, tokens.of["listener"], sent), sent
    async with (
        asyncio.timeout(WITHIN),
        connect(guarded.stream, additional_headers=tokens.bearer("listener"), proxy=None) as one,
    ):
        await (await one.ping())
    known = await asyncio.to_thread(guarded.http.get, "/api/journal/groups", headers=tokens.bearer("ana"))
    assert '"others"' not in known.text
    assert memory(guarded.process.pid) - before < MOST_GROWTH
