"""Which gaps a feed's connections declare, and from when. On a real WebSocket server, behind a relay that can hold."""

import asyncio
import contextlib
import http
import json
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection

from tests.unit.feeds.test_hostile import holding
from tests.unit.feeds.test_sessions import Server, opened, serving, source_of, taken, until
from unlost.listener.ports.source import SourceEnded
from unlost.listener.source.feed import moves
from unlost.listener.source.feed.session import FeedSession
from unlost.listener.source.feed.source import FeedSource
from unlost.listener.source.websocket.connection import WebSocketOptions
from unlost.listener.source.websocket.link import linked
from unlost.listener.source.websocket.messages import open_messages

ALL = 'keep = { id = "*" }\nid = "id"\n'
MOVING = ALL + "again = { again = true }\n"
NUMBERED = MOVING + 'sequence = { by = "p", at = "id" }\n'
Declared = dict[str, Any]


def declaring(source: FeedSource) -> list[Declared]:
    """Keep all that the source declares."""
    gaps: list[Declared] = []

    def declare(source: str, how: str, *, once: str | None = None, **more: Any) -> None:
        gaps.append({"how": how, **more})

    source.declare = source.contact.declare = declare
    return gaps


async def ended(session: FeedSession) -> None:
    with pytest.raises(SourceEnded):
        await taken(session)


@contextlib.contextmanager
def deaf(client: ServerConnection) -> Iterator[None]:
    """Let the server read nothing, so it answers no ping: a dead connection looks like that."""
    client.transport.pause_reading()
    try:
        yield
    finally:
        client.transport.resume_reading()


# -- from when ------------------------------------------------------------------------------------


@pytest.mark.parametrize("last", ['{"id":1}', '{"control":1}'])
async def test_a_dead_connection_misses_events_from_its_last_message_on(last: str):
    async with serving() as server:
        source = source_of(ALL, server, keepalive=0.4)
        gaps = declaring(source)
        async with opened(source) as session:
            client = await server.clients.get()
            with deaf(client):
                await client.send(last)
                await until(lambda: source.counts.events + source.counts.control == 1)
                read_at = time.time()
                await ended_after(session, source.counts.events)
        async with opened(source):
            pass
    (gap,) = gaps
    assert gap["how"] == "disconnected"
    assert gap["began_at"] <= read_at, "not when the keepalive noticed the end"


async def ended_after(session: FeedSession, events: int) -> None:
    if events:
        await taken(session, events)
    await ended(session)


async def test_an_answer_to_a_ping_is_a_sign_of_life():
    async with serving() as server, linked(open_messages, server.url, WebSocketOptions(keepalive=0.05)) as link:
        began_at = asyncio.get_running_loop().time()
        alive = asyncio.create_task(link.keep_alive(lambda: False))
        reading = asyncio.create_task(link.take(1, 1))
        await until(lambda: link.answered_at > began_at)
        alive.cancel()
        reading.cancel()
        await asyncio.wait([alive, reading])


async def test_each_time_without_a_connection_is_declared_even_if_no_event_came_between():
    async with serving() as server:
        source = source_of(ALL, server)
        gaps = declaring(source)
        for _ in range(3):
            async with opened(source) as session:
                await (await server.clients.get()).close()
                await ended(session)
    assert [gap["how"] for gap in gaps] == ["disconnected"] * 2


# -- a move: one connection after the other -------------------------------------------------------


class Relay:
    """Passes bytes between a client and the server; what the first connection's server sends can be held."""

    def __init__(self, server: Server) -> None:
        self._target = server.url.removeprefix("ws://").split(":")
        self._count = 0
        self.flows = asyncio.Event()
        self.flows.set()
        self.url = ""
        self.tasks: list[asyncio.Task[None]] = []

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Join one connection."""
        self._count += 1
        gate = self.flows if self._count == 1 else None
        to_server = await asyncio.open_connection(self._target[0], int(self._target[1]))
        self.tasks += [
            asyncio.create_task(self._pass(reader, to_server[1], None)),
            asyncio.create_task(self._pass(to_server[0], writer, gate)),
        ]

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, gate: Any) -> None:
        try:
            while data := await reader.read(65_536):
                if gate is not None:
                    await gate.wait()
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()


@contextlib.asynccontextmanager
async def relayed(server: Server) -> AsyncIterator[Relay]:
    relay = Relay(server)
    listening = await asyncio.start_server(relay.talk, "127.0.0.1", 0)
    relay.url = server.url
    server.url = f"ws://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    try:
        yield relay
    finally:
        listening.close()
        for task in relay.tasks:
            task.cancel()
        await asyncio.gather(*relay.tasks, return_exceptions=True)


@pytest.mark.parametrize("late", [[], ['{"id":1}']])
async def test_an_old_connection_that_was_ended_before_the_new_one_began_leaves_a_gap(late: list[str]):
    """Its close frame, and events before that, are on the way when the new connection is open."""
    release = asyncio.Event()
    async with holding(release) as server, relayed(server) as relay:
        source = source_of(MOVING, server)
        gaps = declaring(source)
        async with opened(source) as session:
            old = await server.clients.get()
            await old.send('{"again":true}')
            await until(lambda: source.counts.control == 1)
            asked_at = time.time()
            relay.flows.clear()
            for message in late:
                await old.send(message)
            closing = asyncio.create_task(old.close())
            await asyncio.sleep(0)
            release.set()
            new = await server.clients.get()
            await until(lambda: source.counts.connections == 2)
            relay.flows.set()
            await closing
            await new.send('{"id":3}')
            assert (await taken(session, 1 + len(late)))[-1] == "3"
            await until(lambda: bool(gaps))
            assert [gap["how"] for gap in gaps] == ["disconnected"]
            assert gaps[0]["began_at"] <= asked_at + 1.0
            assert source.counts.connections == 2


async def test_an_old_connection_that_answers_after_the_new_one_began_leaves_none():
    async with serving() as server:
        source = source_of(MOVING, server)
        gaps = declaring(source)
        async with opened(source) as session:
            old = await server.clients.get()
            await old.send('{"again":true}')
            await (await server.clients.get()).send('{"id":1}')
            assert await taken(session) == ["1"]
            await asyncio.wait_for(old.wait_closed(), 5)
    assert gaps == []


async def test_an_old_connection_that_is_dead_leaves_a_gap_from_its_last_sign_of_life(monkeypatch):
    monkeypatch.setattr(moves, "ANSWER_SECONDS", 0.3)
    async with serving() as server:
        source = source_of(MOVING, server)
        gaps = declaring(source)
        async with opened(source) as session:
            old = await server.clients.get()
            with deaf(old):
                await old.send('{"again":true}')
                await until(lambda: source.counts.control == 1)
                read_at = time.time()
                await (await server.clients.get()).send('{"id":1}')
                assert await taken(session) == ["1"]
                await until(lambda: bool(gaps))
    assert [gap["how"] for gap in gaps] == ["disconnected"]
    assert gaps[0]["began_at"] <= read_at


RESUMING = ALL + 'cursor = "id"\nresume = { query = "after" }\n'


@pytest.mark.parametrize(
    ("again", "read", "after", "how"),
    [
        ("{ when = { again = true } }", 1, ["", "?after=1"], []),
        ("{ when = { again = true } }", 0, ["", ""], ["disconnected"]),
        ('{ when = { again = true }, url = "url" }', 1, ["", "moved"], ["disconnected"]),
    ],
)
async def test_a_move_of_a_feed_that_resumes_goes_on_after_the_last_cursor_or_declares_a_gap(
    monkeypatch, again: str, read: int, after: list[str], how: list[str]
):
    """The old connection is dead. A feed that was not asked to go on after a cursor repeats nothing."""
    monkeypatch.setattr(moves, "ANSWER_SECONDS", 0.3)
    monkeypatch.setattr(moves, "LINGER_SECONDS", 0.3)
    async with serving() as server:
        source = source_of(RESUMING + f"again = {again}", server)
        gaps = declaring(source)
        async with opened(source) as session:
            old = await server.clients.get()
            with deaf(old):
                if read:
                    await old.send('{"id":1}')
                await old.send(json.dumps({"again": True, "url": f"{server.url}/moved"}))
                new = await server.clients.get()
                await new.send('{"id":10}')
                assert (await taken(session, 1 + read))[-1] == "10"
                await new.send(json.dumps({"again": True, "url": f"{server.url}/moved"}))
                await server.clients.get()  # the next move begins once the old connection was left
    assert [path.removeprefix("/") for path in server.paths[:2]] == after
    assert [gap["how"] for gap in gaps] == how


async def test_numbers_under_a_name_that_ends_with_the_connection_do_not_hide_the_time_without_one():
    text = ALL + 'sequence = { by = "session", at = "id", each_connection = true }'
    async with serving() as server:
        source = source_of(text, server)
        gaps = declaring(source)
        for session_id in ("first", "second"):
            async with opened(source) as session:
                client = await server.clients.get()
                await client.send(json.dumps({"id": 7, "session": session_id}))
                assert await taken(session) == ["7"]
                await client.close()
                await ended(session)
    assert [gap["how"] for gap in gaps] == ["disconnected"]


# -- numbers during a move ------------------------------------------------------------------------


async def send(client: ServerConnection, *numbers: int) -> None:
    for number in numbers:
        await client.send(json.dumps({"id": number, "p": "x"}))


def numbers_of(source: FeedSource) -> list[tuple[Any, ...]]:
    return list(source.gaps)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("by_the_old", "by_the_new", "missing"),
    [
        ([], [6, 7], [("x:3", "x:6", 2)]),
        ([4, 5], [6, 7], []),
        ([4, 5, 6, 9], [6, 8, 9, 11], [("x:6", "x:8", 1), ("x:9", "x:11", 1)]),
        ([4, 6], [4, 6], [("x:4", "x:6", 1)]),
        ([4, 5, 6, 7, 8], [5], []),
        ([4, 5, 8], [], [("x:5", "x:8", 2)]),
        ([4, 7, 10], [5, 8], [("x:5", "x:7", 1), ("x:8", "x:10", 1)]),
    ],
)
async def test_numbers_that_neither_connection_delivers_during_a_move_are_missing(
    by_the_old: list[int], by_the_new: list[int], missing: list[tuple[str, str, int]]
):
    """The old connection is slower. Each hole is declared once, when the old connection has ended."""
    release = asyncio.Event()
    async with holding(release) as server, relayed(server) as relay:
        source = source_of(NUMBERED, server)
        async with opened(source) as session:
            old = await server.clients.get()
            await send(old, 1, 2, 3)
            await old.send('{"again":true}')
            assert await taken(session, 3) == ["1", "2", "3"]
            relay.flows.clear()
            release.set()
            new = await server.clients.get()
            await send(old, *by_the_old)
            await send(new, *by_the_new)
            await until(lambda: source.counts.events == 3 + len(by_the_new))
            assert numbers_of(source) == [], "the old connection may still deliver them"
            closing = asyncio.create_task(old.close())
            relay.flows.set()
            await closing
            after = max(by_the_old + by_the_new)
            await send(new, after + 1, after + 3)
            await until(lambda: source.counts.events == 5 + len(by_the_old + by_the_new))
            expected = [("sequence", *one) for one in [*missing, (f"x:{after + 1}", f"x:{after + 3}", 1)]]
            await until(lambda: len(numbers_of(source)) == len(expected))
    assert numbers_of(source) == expected


# -- a connection that cannot be opened -----------------------------------------------------------


async def test_events_before_a_refused_subscription_are_read():
    text = 'open = [{ send = "x", wait = "ok" }]\nstop_on = [{ error = "*" }]\n' + ALL
    async with serving() as server:
        source = source_of(text, server)
        gaps = declaring(source)

        async def subscribe(answer: str) -> ServerConnection:
            client = await server.clients.get()
            for message in ('{"id":1}', answer, '{"id":2}'):
                await client.send(message)
            return client

        refusing = asyncio.create_task(subscribe('{"error":"no"}'))
        async with opened(source) as session:
            found = await taken(session)
            while len(found) < 2:
                found += await taken(session)
            with pytest.raises(SourceEnded, match="pointless"):
                await taken(session)
        assert found == ["1", "2"]
        await refusing
        assert gaps == []
        subscribing = asyncio.create_task(subscribe("ok"))
        async with opened(source) as session:
            assert await taken(session, 2) == ["1", "2"]
        (await subscribing).transport.abort()
    assert [gap["how"] for gap in gaps] == ["disconnected"], "the first connection delivered events, too"


async def test_the_first_loss_counts_however_many_attempts_fail():
    async with serving() as server:
        source = source_of(ALL, server)
        gaps = declaring(source)
        async with opened(source) as session:
            await (await server.clients.get()).close()
            await ended(session)
        lost_at = time.time()
        server.status = http.HTTPStatus.SERVICE_UNAVAILABLE
        for _ in range(2):
            with pytest.raises(SourceEnded):
                async with opened(source):
                    pass
        server.status = None
        async with opened(source):
            pass
    assert [gap["how"] for gap in gaps] == ["disconnected"]
    assert gaps[0]["began_at"] <= lost_at


@pytest.mark.parametrize(
    ("asked", "first", "late"),
    [("5000", 4999, False), ("5000", 5000, False), ("5000", 5001, True), ("5000", 90_000, True), ("t-5", 9, False)],
)
async def test_a_feed_that_continues_after_what_it_was_asked_for_leaves_a_gap(asked: str, first: int, late: bool):
    """With an overlap, an event that is known must come before any later one."""
    text = 'cursor = "t"\nresume = { query = "c" }\noverlap = 100\nkeep = { id = "*" }\nid = "id"'
    async with serving() as server:
        source = source_of(text, server)
        gaps = declaring(source)
        async with opened(source, asked) as session:
            client = await server.clients.get()
            await client.send('{"control":1}')
            for number, cursor in enumerate([first, first + 500]):
                await client.send(json.dumps({"id": number, "t": cursor}))
            assert await taken(session, 2) == ["0", "1"]
    expected = [{"how": "refused", "after": asked, "resumed_at": str(first)}] if late else []
    assert gaps == expected


@pytest.mark.parametrize("resume", ['resume = { query = "c" }', 'resume = { message = "{cursor}" }\noverlap = 100'])
async def test_without_an_overlap_or_with_live_events_before_it_nothing_can_be_known(resume: str):
    async with serving() as server:
        source = source_of(f'cursor = "t"\n{resume}\nid = "id"', server)
        async with opened(source, "5000") as session:
            await (await server.clients.get()).send('{"id":1,"t":9000}')
            assert await taken(session) == ["1"]
    assert numbers_of(source) == []


async def test_a_cursor_that_was_given_up_is_declared_once_however_often_connecting_fails_then():
    async with serving() as server:
        source = source_of('cursor = "t"\nresume = { query = "c" }\nid = "id"', server)
        gaps = declaring(source)
        for status in [http.HTTPStatus.GONE] * 3 + [http.HTTPStatus.SERVICE_UNAVAILABLE] * 3:
            server.status = status
            with pytest.raises(SourceEnded):
                async with opened(source, "5"):
                    pass
        server.status = None
        async with opened(source, "5"):
            pass
    assert [(gap["how"], gap["after"]) for gap in gaps] == [("refused", "5")]
    assert server.paths == ["/?c=5"] * 3 + ["/"] * 4
