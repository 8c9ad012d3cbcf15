"""A feed's connections: subscriptions, answers, moves, acknowledgements, gaps. On a real WebSocket server."""

import asyncio
import contextlib
import http
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from unlost.listener.core.oversized import Oversized
from unlost.listener.ports.source import Batch, SourceEnded
from unlost.listener.source.feed.described import ProfileFeed
from unlost.listener.source.feed.hook import Opening, Receipt, Send
from unlost.listener.source.feed.loading import parse
from unlost.listener.source.feed.session import FeedSession
from unlost.listener.source.feed.source import FeedSource, moved
from unlost.listener.source.websocket.connection import Open, WebSocketOptions
from unlost.listener.source.websocket.messages import open_messages


class Server:
    """Keeps the connections that it accepted, and what it received on each."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.received: list[str] = []
        self.clients: asyncio.Queue[ServerConnection] = asyncio.Queue()
        self.heard: asyncio.Queue[str] = asyncio.Queue()
        self.status: http.HTTPStatus | None = None
        self.url = ""

    async def talk(self, client: ServerConnection) -> None:
        self.clients.put_nowait(client)
        async for message in client:
            self.heard.put_nowait(str(message))

    def look(self, connection: ServerConnection, request: Any) -> Any:
        self.paths.append(request.path)
        self.headers.append(dict(request.headers.raw_items()))
        if request.path.startswith("/open"):
            return connection.respond(http.HTTPStatus.OK, json.dumps({"url": f"{self.url}/link?ticket=1"}))
        return None if self.status is None else connection.respond(self.status, "no")


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[Server]:
    server = Server()
    async with serve(server.talk, "127.0.0.1", 0, process_request=server.look) as running:
        server.url = f"ws://127.0.0.1:{next(iter(running.sockets)).getsockname()[1]}"
        yield server


def source_of(
    text: str, server: Server, environment: dict[str, str] | None = None,
    open_connection: Open = open_messages, **options: Any,
) -> FeedSource:  # fmt: skip
    gaps: list[tuple[Any, ...]] = []

    def declare(source: str, how: str, **more: Any) -> None:
        gaps.append((how, more.get("after"), more.get("resumed_at"), more.get("missing")))

    url = "" if "url_from" in text else f'url = "{server.url}/"\n'
    feed = ProfileFeed(parse(url + text, "feed", environment or {}))
    source = FeedSource(
        "feed", feed, declare=declare, open_connection=open_connection, websocket=WebSocketOptions(**options)
    )
    source.gaps = gaps  # type: ignore[attr-defined]
    return source


@contextlib.asynccontextmanager
async def opened(source: FeedSource, after: str | None = None) -> AsyncIterator[FeedSession]:
    async def cursor() -> str | None:
        return after

    async with source.open(cursor) as session:
        beside = asyncio.create_task(session.run(lambda: False))
        try:
            yield session
        finally:
            beside.cancel()


async def taken(session: FeedSession, count: int = 1) -> list[str]:
    ids: list[str] = []
    async with asyncio.timeout(10):
        while len(ids) < count:
            batch = await session.take(100, 100_000)
            assert isinstance(batch, Batch)
            ids += [json.loads(body)["event_id"] for body in batch.bodies]
    return ids


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110 - a source states no facts
            await asyncio.sleep(0.01)


async def test_messages_before_the_answer_to_a_subscription_are_events_too():
    text = (
        """open = [{ send = '{"op":"sub"}', wait = { ok = true } }, '{"op":"more"}']\nkeep = { id = "*" }\nid = "id\""""
    )
    async with serving() as server:
        source = source_of(text, server)

        async def subscribe() -> ServerConnection:
            client = await server.clients.get()
            assert await server.heard.get() == '{"op":"sub"}'
            await client.send('{"id":1}')
            await client.send('{"ok":true}')
            return client

        subscribing = asyncio.create_task(subscribe())
        async with opened(source) as session:
            await (await subscribing).send('{"id":2}')
            assert await taken(session, 2) == ["1", "2"]
            assert await server.heard.get() == '{"op":"more"}'
            assert source.counts.control == 1


SENDING = """
open = ['{"query":${QUERY},"token":"${TOKEN}"}']
reply = [{ when = { type = "ping" }, send = '{"pong":{n},"token":"${TOKEN}"}' }]
keep = { id = "*" }
id = "id"
heartbeat = { every = 99, send = '{"beat":{n},"token":"${TOKEN}"}' }
"""
RESUMING = """resume = { message = '{"after":"{cursor}","token":"${TOKEN}"}' }\ncursor = "id"\n"""
SETTLING = """ack = '{"ack":{id},"token":"${TOKEN}"}'\n"""


@pytest.mark.parametrize("more", [RESUMING, SETTLING])
async def test_each_message_to_a_feed_takes_values_from_outside_and_leaves_their_braces_alone(more: str):
    values = {"QUERY": '"subscription{trades{id}}"', "TOKEN": "p{n}c${id}{cursor}"}
    async with serving() as server:
        source = source_of(SENDING + more, server, values)
        async with opened(source, after="4"):
            sent = [await server.heard.get() for _ in range(2 if more == RESUMING else 1)]
    actions = [*source.feed.read(b'{"type":"ping","n":7}'), source.feed.beat(), *source.feed.read(b'{"id":5}')]
    sent += [one.text for one in actions if isinstance(one, Send)]
    sent += [str(one.value) for one in actions if isinstance(one, Receipt)]
    resumed, settled = ([{"after": "4"}], []) if more == RESUMING else ([], [{"ack": 5}])
    expected: list[dict[str, Any]] = [
        {"query": "subscription{trades{id}}"},
        *resumed,
        {"pong": 7},
        {"beat": 7},
        *settled,
    ]
    assert [json.loads(one) for one in sent] == [{**one, "token": values["TOKEN"]} for one in expected]


async def test_an_answer_that_does_not_come_ends_the_attempt():
    async with serving() as server:
        with pytest.raises(SourceEnded, match=r"did not answer step 1 of open in 0\.1 s"):
            async with opened(source_of('open = [{ send = "x", wait = "y", within = 0.1 }]\nid = "id"', server)):
                pass


async def test_a_refused_subscription_and_a_close_code_make_retrying_pointless():
    text = 'open = [{ send = "x", wait = "ok" }]\nstop_on = [4004, { error = "*" }]\nid = "id"'
    async with serving() as server:
        source = source_of(text, server)
        opening = asyncio.create_task(opened(source).__aenter__())
        await (await server.clients.get()).send('{"error":"no such product"}')
        with pytest.raises(SourceEnded, match=r"no such product.*pointless") as ended:
            await opening
        assert ended.value.loss.wait == 600
        async with opened(source_of("stop_on = [4004]\nid = 'id'", server)) as session:
            await (await server.clients.get()).close(4004, "authentication failed")
            with pytest.raises(
                SourceEnded, match="4004: authentication failed; trying again soon is pointless"
            ) as ended:
                await session.take(1, 1)
        assert (ended.value.loss.code, ended.value.loss.wait) == (4004, 600)


async def test_pings_of_the_application_are_answered_although_nobody_takes_events():
    text = """reply = [{ when = "2", send = "3" }]\nkeep = { id = "*" }\nid = "id"\n"""
    text += 'heartbeat = { every = 0.05, send = "beat" }'
    async with serving() as server, opened(source_of(text, server)):
        client = await server.clients.get()
        await client.send('{"id":1}')
        await client.send("2")
        answers = [await asyncio.wait_for(server.heard.get(), 5) for _ in range(4)]
    assert set(answers) == {"3", "beat"}


async def test_a_feed_that_nobody_takes_from_is_not_read_without_end():
    async with serving() as server:
        source = source_of('id = "id"', server)
        async with opened(source) as session:
            client = await server.clients.get()
            sending = asyncio.create_task(send_many(client, 3000))
            await until(lambda: source.counts.events > 800)
            await asyncio.sleep(0.1)
            read = source.counts.events
            assert read < 2900, "reading has paused"
            assert len(await taken(session, 3000)) == 3000
            await sending


async def send_many(client: ServerConnection, count: int) -> None:
    for number in range(count):
        await client.send(json.dumps({"id": number, "text": "x" * 1000}))


async def test_the_old_connection_is_left_once_the_new_one_delivers():
    text = 'keep = { id = "*" }\nid = "id"\nagain = { again = true }'
    async with serving() as server:
        source = source_of(text, server)
        async with opened(source) as session:
            old = await server.clients.get()
            await old.send('{"again":true}')
            new = await server.clients.get()
            await old.send('{"id":1}')
            assert await taken(session) == ["1"]
            await new.send('{"id":2}')
            assert await taken(session) == ["2"]
            await asyncio.wait_for(old.wait_closed(), 5)
            await new.send('{"id":3}')
            assert await taken(session) == ["3"]
            await new.close()
            with pytest.raises(SourceEnded):
                await taken(session)
    assert source.gaps == []  # type: ignore[attr-defined]
    assert source.counts.connections == 2


async def test_a_connection_is_renewed_in_time():
    async with serving() as server, opened(source_of('id = "id"\nagain = { every = 0.1 }', server)):
        for _ in range(2):
            await asyncio.wait_for(server.clients.get(), 5)


def test_an_address_from_a_feed_gets_no_secrets_of_another_host():
    opening = Opening(url="wss://feed.example/x", headers={"Authorization": "Bearer x"})
    assert moved(opening, "wss://feed.example/y").headers == opening.headers
    assert moved(opening, "wss://other.example/y").headers == {}
    for bad in ("ws://feed.example/y", "https://feed.example/", "file:///etc/passwd", ""):
        with pytest.raises(SourceEnded, match=r"not wss://"):
            moved(opening, bad)


async def test_a_message_is_acknowledged_once_its_receipt_comes_back():
    text = """ack = '{"ack":"{e}"}'\nkeep = { id = "*" }\neach = "d[*]"\nid = "id\""""
    text = text.replace('keep = { id = "*" }', 'keep = { d = "*" }')
    async with serving() as server:
        source = source_of(text, server)
        assert (source.resumes, source.shared) == (True, True)
        async with opened(source) as session:
            client = await server.clients.get()
            await client.send('{"e":"E1","d":[{"id":1},{"id":2}]}')
            batch = await session.take(10, 10_000)
            assert isinstance(batch, Batch)
            ((count, receipt),) = batch.receipts
            assert (count, len(batch.bodies)) == (2, 2)
            await client.send('{"e":"E2"}')
            assert await server.heard.get() == '{"ack":"E2"}', "nothing waits for a control message"
            await session.settled([receipt])
            assert await server.heard.get() == '{"ack":"E1"}'
            await client.close()
            await session.settled([receipt])


@pytest.mark.parametrize(
    ("ack", "missing"), [("""'{"ack":"{e}"}'""", 2), ("""{ send = '{"ack":"{e}"}', at_once = true }""", 0)]
)
async def test_messages_that_lack_what_their_acknowledgement_needs_are_counted(ack: str, missing: int):
    async with serving() as server:
        source = source_of(f'ack = {ack}\nkeep = {{ id = "*" }}\nid = "id"', server)
        async with opened(source) as session:
            client = await server.clients.get()
            for message in ('{"id":1,"e":"E1"}', '{"id":2}', '{"control":1}', '{"id":3,"e":null}', '{"id":4,"e":"E4"}'):
                await client.send(message)
            assert await taken(session, 4) == ["1", "2", "3", "4"]
    assert source.counts.unacknowledged == missing


async def test_the_cursor_and_headers_and_subprotocols_are_asked_for(tmp_path: Path):
    token = tmp_path / "token"
    token.write_text("first")
    text = f"""cursor = "t"\nresume = {{ query = "since" }}\noverlap = 5\nid = "id"
[wire]\nheaders = {{ Authorization = "file:{token}" }}\nsubprotocols = ["feed.v1"]"""
    async with serving() as server:
        source = source_of(text, server)
        async with opened(source, "1725911162329308"):
            await server.clients.get()
        token.write_text("second")
        async with opened(source) as session:
            await (await server.clients.get()).send('{"id":1,"t":77}')
            batch = await session.take(1, 1000)
            assert isinstance(batch, Batch)
            assert batch.cursors == ["77"]
    assert server.paths == ["/?since=1725911162329303", "/"]
    assert [one["Authorization"] for one in server.headers] == ["first", "second"]
    assert server.headers[0]["Sec-WebSocket-Protocol"] == "feed.v1"


async def test_resuming_by_a_message():
    text = """cursor = "t"\nresume = { message = '{"resume":{cursor}}' }\nid = "id\""""
    async with serving() as server, opened(source_of(text, server), "41"):
        assert await server.heard.get() == '{"resume":41}'


async def test_a_cursor_that_is_refused_again_and_again_is_given_up_and_declared():
    async with serving() as server:
        source = source_of('cursor = "t"\nresume = { query = "c" }\nid = "id"', server)
        server.status = http.HTTPStatus.GONE
        for _ in range(3):
            with pytest.raises(SourceEnded):
                async with opened(source, "5"):
                    pass
        server.status = None
        async with opened(source, "5"):
            pass
    assert server.paths == ["/?c=5"] * 3 + ["/"]
    assert source.gaps == [("refused", "5", None, None)]  # type: ignore[attr-defined]


async def test_the_address_comes_from_a_call():
    async with serving() as server:
        text = """id = "id"\n[url_from]\nurl = "${API}/open"\nmethod = "GET"\n"""
        text += 'headers = { Authorization = "Bearer ${TOKEN}" }'
        api = server.url.replace("ws://", "http://")
        async with opened(source_of(text, server, {"API": api, "TOKEN": "sesame"})):
            await server.clients.get()
        assert server.paths == ["/open", "/link?ticket=1"]
        assert server.headers[0]["Authorization"] == "Bearer sesame"
        with pytest.raises(SourceEnded, match="no WebSocket address stands at href"):
            async with opened(
                source_of(text.replace("[url_from]", '[url_from]\nat = "href"'), server, {"API": api, "TOKEN": "s"})
            ):
                pass


async def test_gaps_are_declared():
    text = 'id = "n"\nsequence = { by = "p", at = "n" }'
    async with serving() as server:
        source = source_of(text, server)
        async with opened(source) as session:
            client = await server.clients.get()
            for number in (1, 2, 5, 5, 4, 6):
                await client.send(json.dumps({"n": number, "p": "x"}))
            await taken(session, 6)
        async with opened(source) as session:
            await (await server.clients.get()).send('{"n":9,"p":"x"}')
            await taken(session)
    assert source.gaps == [("sequence", "x:2", "x:5", 2), ("sequence", "x:6", "x:9", 2)]  # type: ignore[attr-defined]


async def test_time_without_a_connection_is_a_gap_if_the_feed_does_not_resume():
    async with serving() as server:
        source = source_of('id = "id"', server)
        for _ in range(2):
            async with opened(source) as session:
                await (await server.clients.get()).send('{"id":1}')
                await taken(session)
    assert [gap[0] for gap in source.gaps] == ["disconnected"]  # type: ignore[attr-defined]


async def test_silence_is_declared_once():
    async with serving() as server:
        source = source_of('keep = { id = "*" }\nid = "id"\nfresh = 0.2', server)
        async with opened(source):
            await (await server.clients.get()).send('{"beat":1}')
            await until(lambda: source.counts.control == 1 and bool(source.gaps))  # type: ignore[attr-defined]
            await asyncio.sleep(0.3)  # twice as long as it takes to look again
    assert {gap[0] for gap in source.gaps} == {"silence"}  # type: ignore[attr-defined]
    assert len(source.gaps) <= 2, "once before the message at most, and once after it"  # type: ignore[attr-defined]


async def test_a_message_that_is_too_large_is_measured():
    async with serving() as server, opened(source_of('id = "id"', server, max_frame=1000)) as session:
        await (await server.clients.get()).send('{"id":1,"x":"' + "y" * 5000 + '"}')
        taken_one = await session.take(1, 1000)
        assert isinstance(taken_one, Oversized)


async def test_a_stop_takes_arrived_messages_that_had_found_no_room():
    """A feed that does not resume sends it to nobody again."""
    async with serving() as server:
        source = source_of('keep = { id = "*" }\nid = "id"', server)
        filling = "x" * 8_192
        async with opened(source) as session:
            client = await server.clients.get()
            sending = asyncio.create_task(_send_all(client, [f'{{"id":{n},"f":"{filling}"}}' for n in range(400)]))
            seen = -1
            while seen != source.counts.events:  # until it has no room
                seen = source.counts.events
                await asyncio.sleep(0.2)
            assert 50 < seen < 300
        rest: list[str] = []
        while (batch := await session.take_rest(100, 1_000_000)) is not None:
            assert isinstance(batch, Batch)
            rest += [json.loads(body)["event_id"] for body in batch.bodies]
        sending.cancel()
    assert rest == [str(number) for number in range(len(rest))]
    assert len(rest) > seen, "the connection held more"


async def _send_all(client: ServerConnection, messages: list[str]) -> None:
    with contextlib.suppress(ConnectionClosed):
        for message in messages:
            await client.send(message)


async def test_a_long_name_of_numbers_is_shortened_and_stays_apart_from_others():
    text = 'id = "{by}:{n}"\nsequence = { by = "by", at = "n" }'
    async with serving() as server:
        source = source_of(text, server)
        async with opened(source) as session:
            client = await server.clients.get()
            for end, number in (("a", 1), ("b", 1), ("a", 3), ("b", 2)):
                await client.send(json.dumps({"by": "n" * 500_000 + end, "n": number}))
            await taken(session, 4)
    ((how, after, resumed_at, missing),) = source.gaps  # type: ignore[attr-defined]
    assert (how, missing) == ("sequence", 1)
    assert len(after) < 300
    assert len(resumed_at) < 300
