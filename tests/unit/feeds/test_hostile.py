"""Nothing that a feed sends, or fails to send, ends a listener or holds it for ever. On real sockets."""

import asyncio
import contextlib
import gzip
import json
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve

from tests.unit.feeds.test_sessions import Server, opened, serving, source_of, taken, until
from unlost.listener.core.errors import Transient
from unlost.listener.ports.source import Batch, SourceEnded
from unlost.listener.source.feed import calls, connection, events, moves
from unlost.listener.source.feed.calls import call
from unlost.listener.source.feed.hook import (
    Action,
    Beat,
    Feed,
    FeedEvent,
    Keepalive,
    NewConnection,
    Opening,
    Receipt,
    Send,
)
from unlost.listener.source.feed.source import FeedSource
from unlost.listener.source.websocket.connection import WebSocketOptions

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def tcp(talk: Talk, context: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """A server that says what it likes; with a context, by TLS."""

    talking: set[asyncio.Task[None] | None] = set()

    async def talked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talking.add(asyncio.current_task())
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await talk(reader, writer)
        writer.close()

    server = await asyncio.start_server(talked, "127.0.0.1", 0, ssl=context)
    try:
        yield f"{'https' if context else 'http'}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await asyncio.wait_for(asyncio.gather(*filter(None, talking)), 10)


def answering(head: bytes, body: bytes = b"", heads: list[bytes] | None = None) -> Talk:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await reader.readuntil(b"\r\n\r\n")
        if heads is not None:
            heads.append(asked)
        writer.write(b"HTTP/1.1 " + head + b"\r\n\r\n" + body)
        await writer.drain()

    return talk


class Own(Feed):
    """A user's feed."""

    opened_within = 0.3

    def __init__(self, url: str) -> None:
        self.url = url
        self.acks: list[object] = []

    async def opening(self, after: str | None) -> Opening:
        return Opening(url=self.url)

    def read(self, message: bytes) -> Iterable[Action]:
        return (FeedEvent(json.loads(message)["id"], message),)


def reading(feed: Feed) -> FeedSource:
    return FeedSource("own", feed, declare=lambda *_, **__: None, websocket=WebSocketOptions())


# -- a time limit for everything ------------------------------------------------------------------


async def test_an_answer_that_drips_ends_the_call(monkeypatch):
    monkeypatch.setattr(calls, "CALL_SECONDS", 0.3)

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.02)

    async with tcp(drip) as url:
        with pytest.raises(SourceEnded, match=r"did not answer in full in 0\.3 s"):
            await asyncio.wait_for(call("GET", url, {}), 10)


async def test_a_feed_that_answers_nothing_to_a_hook_ends_the_attempt():
    class Waits(Own):
        async def opened(self, connection: NewConnection) -> None:
            await connection.receive()

    async with serving() as server:
        with pytest.raises(SourceEnded, match=r"was not open after 0\.3 s"):
            async with asyncio.timeout(10), opened(reading(Waits(server.url))):
                pass


async def test_messages_before_the_answer_to_a_subscription_are_bounded(monkeypatch):
    monkeypatch.setattr(connection, "MOST_EARLY_BYTES", 100_000)
    async with serving() as server:

        async def flood() -> None:
            client = await server.clients.get()
            with contextlib.suppress(Exception):
                while True:
                    await client.send("x" * 10_000)

        flooding = asyncio.create_task(flood())
        with pytest.raises(SourceEnded, match=r"messages of 1\d0,000 bytes, and no answer among them"):
            async with opened(source_of('open = [{ send = "x", wait = "y" }]\nid = "id"', server)):
                pass
        flooding.cancel()


async def test_a_feed_that_never_reads_holds_up_no_acknowledgement_for_ever(monkeypatch):
    """Its messages come; what is sent to it fills the socket."""
    monkeypatch.setattr(connection, "SEND_SECONDS", 0.3)
    big = "y" * 1_000_000
    text = """ack = '{"ack":"{e}"}'\nkeep = { e = "*" }\nid = "e\""""
    async with serving() as server:
        source = source_of(text, server, max_frame=10_000_000)
        async with asyncio.timeout(30), opened(source) as session:
            client = await server.clients.get()
            deaf(client)
            receipts = []
            for number in range(20):
                await client.send(json.dumps({"e": f"{number}{big}"}))
                batch = await session.take(1, 10_000_000)
                assert isinstance(batch, Batch)
                receipts.append(batch.receipts[0][1])
            await session.settled(receipts)
            with pytest.raises(SourceEnded):
                await session.take(1, 1)
    assert source.counts.acknowledged < 20


def deaf(client: ServerConnection) -> None:
    """Read nothing more of what this client sends."""
    client.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.transport.pause_reading()


# -- a user's own code ----------------------------------------------------------------------------


async def test_actions_that_make_no_sense_are_refused_and_the_next_message_is_read():
    class Confused(Own):
        def read(self, message: bytes) -> Iterable[Action]:
            if message == b"two":
                return (Receipt(1), Receipt(2), FeedEvent("x", b"{}"))
            return (FeedEvent("1", json.loads(message)["payload"]),)  # a text, not JSON's bytes

    async with serving() as server, opened(reading(Confused(server.url))) as session:
        client = await server.clients.get()
        for message in ('{"payload":"text"}', "two"):
            await client.send(message)
            batch = await asyncio.wait_for(session.take(1, 1000), 10)
            assert isinstance(batch, Batch)
            assert json.loads(batch.bodies[0])["event_id"] is None
            assert "returned nonsense" in json.loads(batch.bodies[0])["refused"]


async def test_a_heartbeat_and_an_acknowledgement_that_fail_are_the_connections_problem():
    class Broken(Own):
        beats_every = 0.05

        def beat(self) -> Send:
            raise RuntimeError("no beat")

        def settled(self, receipt: Any) -> Send | None:
            return "text"  # type: ignore[return-value]

        def read(self, message: bytes) -> Iterable[Action]:
            return (Receipt(1),)

    async with serving() as server, opened(reading(Broken(server.url))) as session:
        with pytest.raises(SourceEnded, match="the feed's beat failed: RuntimeError: no beat"):
            await asyncio.wait_for(session.take(1, 1), 10)


@pytest.mark.parametrize(("order", "name"), [(Beat, "beat"), (Keepalive, "keepalive")])
async def test_an_interval_that_is_no_number_ends_the_connection(order: Any, name: str):
    class Odd(Own):
        def read(self, message: bytes) -> Iterable[Action]:
            return (order("soon"),)

    async with serving() as server, opened(reading(Odd(server.url))) as session:
        await (await server.clients.get()).send("x")
        with pytest.raises(SourceEnded, match=f"the feed's {name} failed: TypeError"):
            await asyncio.wait_for(session.take(1, 1), 10)


# -- moves ----------------------------------------------------------------------------------------

MOVING = 'keep = { id = "*" }\nid = "id"\nagain = { again = true }'


async def hold(server: Server, release: asyncio.Event) -> None:
    """Answer no handshake after the first until released."""
    look, first = server.look, asyncio.Event()

    async def late(connection: ServerConnection, request: Any) -> Any:
        if first.is_set():
            await release.wait()
        first.set()
        return look(connection, request)

    server.look = late  # type: ignore[method-assign]


@contextlib.asynccontextmanager
async def holding(release: asyncio.Event) -> AsyncIterator[Server]:
    server = Server()
    await hold(server, release)
    async with serve(server.talk, "127.0.0.1", 0, process_request=server.look) as running:
        server.url = f"ws://127.0.0.1:{next(iter(running.sockets)).getsockname()[1]}"
        yield server


async def test_a_move_whose_old_connection_ends_first_is_an_ordinary_reconnect_with_its_gap():
    release = asyncio.Event()
    async with holding(release) as server:
        source = source_of(MOVING, server)
        async with opened(source) as session:
            old = await server.clients.get()
            await old.send('{"id":1}')
            assert await taken(session) == ["1"]
            await old.send('{"again":true}')
            await old.close()
            with pytest.raises(SourceEnded, match="closed the connection"):
                await asyncio.wait_for(session.take(1, 1), 10)
        release.set()
        async with opened(source) as session:
            assert source.gaps == [("disconnected", None, None, None)]  # type: ignore[attr-defined]


async def test_a_feed_that_resumes_continues_after_its_cursor_if_a_move_fails():
    release = asyncio.Event()
    async with holding(release) as server:
        source = source_of(MOVING + '\ncursor = "id"\nresume = { query = "after" }', server)
        async with opened(source) as session:
            old = await server.clients.get()
            await old.send('{"again":true}')
            await old.close()
            with pytest.raises(SourceEnded):
                await asyncio.wait_for(session.take(1, 1), 10)
        release.set()
        async with opened(source, "7"):
            await server.clients.get()
    assert server.paths[-1] == "/?after=7"
    assert source.gaps == []  # type: ignore[attr-defined]


async def test_moves_never_overlap_and_the_newest_connections_wish_is_done_next(monkeypatch):
    monkeypatch.setattr(moves, "MOVE_SECONDS", 0.05)
    monkeypatch.setattr(moves, "LINGER_SECONDS", 1.0)
    async with serving() as server:
        source = source_of(MOVING, server)
        async with opened(source) as session:
            first = await server.clients.get()
            for _ in range(3):
                await first.send('{"again":true}')
            second = await asyncio.wait_for(server.clients.get(), 5)
            await second.send('{"again":true}')
            await until(lambda: source.counts.control == 4)
            assert source.counts.connections == 2, "the first connection is still being left"
            await second.send('{"id":1}')
            third = await asyncio.wait_for(server.clients.get(), 5)
            await third.send('{"id":2}')
            assert await taken(session, 2) == ["1", "2"]
            await asyncio.wait_for(second.wait_closed(), 5)
    assert source.counts.connections == 3
    assert source.gaps == []  # type: ignore[attr-defined]


# -- HTTP -----------------------------------------------------------------------------------------


async def test_a_call_asks_for_no_packing_and_unpacks_within_the_limit():
    heads: list[bytes] = []
    packed = gzip.compress(b'{"url":"wss://x"}')
    async with tcp(answering(b"200 OK\r\nContent-Encoding: gzip", packed, heads)) as url:
        assert await call("GET", url, {}) == b'{"url":"wss://x"}'
    assert b"accept-encoding: identity" in heads[0].lower()
    bomb = gzip.compress(b" " * 10_000_000)
    async with tcp(answering(b"200 OK\r\nContent-Encoding: gzip", bomb)) as url:
        with pytest.raises(Transient, match=r"cannot be unpacked.*more than 4,194,304 bytes"):
            await call("GET", url, {})
    async with tcp(answering(b"200 OK\r\nContent-Encoding: br", b"x")) as url:
        with pytest.raises(Transient, match="packed, unasked, as br"):
            await call("GET", url, {})


async def test_a_call_follows_no_redirect():
    asked: list[bytes] = []
    async with (
        tcp(answering(b"200 OK", b"secret", asked)) as other,
        tcp(answering(b"302 Found\r\nLocation: " + other.encode())) as url,
    ):
        with pytest.raises(SourceEnded, match="answered HTTP 302"):
            await call("GET", url, {"X-Api-Key": "sesame"})
    assert asked == []


async def test_a_handshake_that_is_redirected_to_another_host_shows_it_no_headers():
    async with serving() as other:
        target = other.url.replace("127.0.0.1", "localhost").encode()
        async with tcp(answering(b"302 Found\r\nContent-Length: 0\r\nLocation: " + target)) as url:

            class Keyed(Own):
                async def opening(self, after: str | None) -> Opening:
                    return Opening(url=self.url, headers={"X-Api-Key": "sesame"})

            Keyed.opened_within = 10.0
            with pytest.raises(SourceEnded, match="redirects to localhost, which must not see the headers"):
                async with opened(reading(Keyed(url.replace("http://", "ws://")))):
                    pass
        assert other.headers == []


async def test_packed_server_sent_events_are_refused():
    head = b"200 OK\r\nContent-Type: text/event-stream\r\nContent-Encoding: gzip"
    heads: list[bytes] = []
    async with tcp(answering(head, gzip.compress(b"data: 1\n\n"), heads)) as url:
        with pytest.raises(SourceEnded, match="packs its events"):
            async with events.event_link(url, WebSocketOptions()):
                pass
    assert b"accept-encoding: identity" in heads[0].lower()


# -- what was read is not lost --------------------------------------------------------------------


async def test_all_events_of_a_stream_that_ends_are_taken_however_many():
    body = b"".join(b'data: {"id":%d}\n\n' % number for number in range(2_000))
    async with tcp(answering(b"200 OK\r\nContent-Type: text/event-stream", body)) as url:

        class Plain(Own):
            def read(self, message: bytes) -> Iterable[Action]:
                return (FeedEvent(str(json.loads(message)["data"]["id"]), message),)

        Plain.opened_within = 10.0
        async with opened(reading(Plain(url))) as session:
            assert await taken(session, 2_000) == [str(number) for number in range(2_000)]


async def test_a_stop_keeps_messages_that_were_read_while_subscribing():
    class Asks(Own):
        opened_within = 10.0

        async def opened(self, connection: NewConnection) -> None:
            for _ in range(3):
                await connection.receive()

    async with serving() as server:
        source = reading(Asks(server.url))

        async def send() -> None:
            client = await server.clients.get()
            for number in range(3):
                await client.send(json.dumps({"id": str(number)}))

        sending = asyncio.create_task(send())
        async with opened(source) as session:
            await sending  # and stop at once: nothing was read after opening
        batch = await session.take_rest(10, 10_000)
        assert isinstance(batch, Batch)
        assert [json.loads(one)["event_id"] for one in batch.bodies] == ["0", "1", "2"]


async def test_a_stop_that_the_feed_asks_for_ends_reading_although_the_connection_stays_open():
    async with serving() as server:
        source = source_of('id = "id"\nkeep = { id = "*" }\nstop_on = [{ revoked = true }]', server)
        async with opened(source) as session:
            client = await server.clients.get()
            await client.send('{"id":1}')
            await client.send('{"revoked":true}')
            assert await taken(session) == ["1"]
            with pytest.raises(SourceEnded, match="revoked"):
                await asyncio.wait_for(session.take(1, 1), 5)
