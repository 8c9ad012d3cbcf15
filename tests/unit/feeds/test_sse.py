"""Server-sent events: the format, cut anywhere, and a feed that resumes by Last-Event-ID."""

import asyncio
import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.feeds.test_sessions import opened, taken
from unlost.listener.core.oversized import Oversized
from unlost.listener.ports.source import SourceEnded
from unlost.listener.source.feed.described import ProfileFeed
from unlost.listener.source.feed.loading import parse
from unlost.listener.source.feed.source import FeedSource
from unlost.listener.source.feed.sse import EventParser
from unlost.listener.source.websocket.connection import WebSocketOptions

STREAM = (
    b"\xef\xbb\xbf: hello\n\nretry: 1500\nid: 1\ndata: {\"n\": 1}\n\n"
    b"event: add\r\ndata: one\r\ndata:two\r\n\r\nid\rdata: {\"n\":3}\rnonsense: x\r\rdata\n\n"
)  # fmt: skip
MESSAGES = [
    b'{"event":"message","id":"1","data":{"n": 1}}', b'{"event":"add","id":"1","data":"one\\ntwo"}',
    b'{"event":"message","id":"","data":{"n":3}}', b'{"event":"message","id":"","data":""}',
]  # fmt: skip


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, len(STREAM))))
def test_events_are_the_same_however_the_bytes_are_cut(cuts: list[int]):
    parser = EventParser(1000)
    edges = [0, *sorted(cuts), len(STREAM)]
    found = [one for begin, end in itertools.pairwise(edges) for one in parser.take(STREAM[begin:end])]
    assert found == MESSAGES
    assert parser.retry == 1.5


def test_an_event_that_is_too_large_is_measured_and_the_next_one_is_read():
    parser = EventParser(100)
    found = [one for _ in range(50) for one in parser.take(b"data: " + b"x" * 50)]
    assert found == []
    (giant, after) = parser.take(b"\n\ndata: 1\n\n")
    assert isinstance(giant, Oversized)
    assert giant.length > 2500
    assert len(giant.head) <= 4096
    assert after == b'{"event":"message","id":"","data":1}'


def test_an_event_that_ends_with_carriage_returns_waits_for_nothing():
    parser = EventParser(1000)
    assert parser.take(b"data: 1\r\r") == [b'{"event":"message","id":"","data":1}']
    assert parser.take(b"\ndata: 2\r\n\r") == [b'{"event":"message","id":"","data":2}']
    assert parser.take(b"\n: end") == []


def test_a_long_id_is_no_id_so_that_small_events_after_it_stay_small():
    parser = EventParser(1_000_000)
    first = parser.take(b"id: 1\ndata: 0\n\nid: " + b"x" * 900_000 + b"\n")
    events = parser.take(b"data: 2\n\n" * 7_000)
    after = parser.take(b"id: 3\ndata: 4\n\n")
    assert first == [b'{"event":"message","id":"1","data":0}']
    assert set(events) == {b'{"event":"message","data":2}'}, "without an id: it is neither their own nor the last one"
    assert after == [b'{"event":"message","id":"3","data":4}']


async def test_a_feed_resumes_by_last_event_id():
    asked: list[str | None] = []
    end = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        asked.append(
            next((line[15:] for line in head.split("\r\n") if line.lower().startswith("last-event-id: ")), None)
        )
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n\r\n")
        begin = int(asked[-1] or 0) + 1
        for number in range(begin, begin + 3):
            writer.write(f"id: {number}\nevent: tick\ndata: {json.dumps({'n': number})}\n\n".encode())
        await writer.drain()
        await end.wait()
        writer.close()

    text = 'id = "data.n"\ntype = "event"\npayload = "data"\ncursor = "id"\nresume = { header = "Last-Event-ID" }'
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/events"
        feed = ProfileFeed(parse(f'url = "{url}"\n{text}', "feed", {}))
        source = FeedSource("feed", feed, declare=lambda *_, **__: None, websocket=WebSocketOptions())
        async with opened(source) as session:
            assert await taken(session, 3) == ["1", "2", "3"]
        async with opened(source, "3") as session:
            assert await taken(session, 3) == ["4", "5", "6"]
            end.set()
            with pytest.raises(SourceEnded, match="ended the stream"):
                await taken(session)
    assert asked == [None, "3"]


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"HTTP/1.1 204 No Content\r\n\r\n", "has no more events"),
        (b"HTTP/1.1 503 No\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n", "HTTP 503"),
        (b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 0\r\n\r\n", "sends text/html"),
        (b"nonsense\r\n\r\n", "cannot be read"),
    ],
)
async def test_an_answer_without_a_stream_of_events_ends_the_session(answer: bytes, why: str):
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        source = FeedSource(
            "x", ProfileFeed(parse(f'url = "{url}"\nid = "id"', "x", {})), declare=lambda *_, **__: None
        )
        with pytest.raises(SourceEnded, match=why):
            async with opened(source):
                pass


def test_comments_belong_to_no_event():
    parser = EventParser(1000)
    assert parser.take(b": ping\n" * 300 + b'data: {"n":1}\n\n') == [b'{"event":"message","id":"","data":{"n":1}}']


@pytest.mark.parametrize("last_id", ["5", "ü"])
async def test_an_event_without_an_id_leaves_the_last_one_as_the_cursor(last_id: str):
    asked: list[bytes] = []

    async def serve(incoming: asyncio.StreamReader, outgoing: asyncio.StreamWriter) -> None:
        head = await incoming.readuntil(b"\r\n\r\n")
        asked.extend(line for line in head.split(b"\r\n") if line.lower().startswith(b"last-event-id"))
        outgoing.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
        outgoing.write(b'data: {"n":"2"}\n\n')
        outgoing.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        text = f'url="http://127.0.0.1:{port}/"\nid="data.n"\ncursor="id"\nresume={{header="Last-Event-ID"}}'
        source = FeedSource("sse", ProfileFeed(parse(text, "sse.toml", {})), declare=lambda *_, **__: None)
        async with opened(source, last_id) as session:
            batch = await session.take(10, 10_000)
    assert asked == [b"Last-Event-ID: " + last_id.encode()]
    assert not isinstance(batch, Oversized)
    assert list(batch.cursors) == [None]
