"""Packets of Socket.IO as events and letters, its addresses, and its connections. The real server is met end to end."""

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve

from unlost.listener.app.feeds import feed_of
from unlost.listener.core.errors import Misconfigured
from unlost.listener.ports.source import Batch, SourceEnded
from unlost.listener.source.feed.hook import FeedEvent, Refused
from unlost.listener.source.feed.source import FeedSource
from unlost.listener.source.feed.taking import take_in, taking_of
from unlost.listener.source.websocket.connection import WebSocketOptions
from unlost.testing import TestFeed

ORDERS = "socketio://127.0.0.1:9/orders"


def became(*messages: bytes, source: str = ORDERS) -> list[tuple[str, object]]:
    """The result of each message: the body of an event, the reason of a letter, or the acknowledgement."""
    feed = TestFeed(source)
    found: list[tuple[str, object]] = []
    for one in feed.read(*messages):
        value: object = json.loads(one.payload) if one.what == "event" else one.detail
        found.append((f"event {one.event_id} {one.type}" if one.what == "event" else one.what, value))
    return [one for one in found if one[0] != "control"]


def event(text: str, namespace: str = "/orders") -> bytes:
    return f"42{namespace},{text}".encode()


def test_an_event_keeps_the_text_of_its_argument():
    (body,) = taking_of(list(feed_of(ORDERS)[1].read(event('["sold", {"event_id":"o1", "price": 1.10}]')))).bodies
    assert body == b'{"event_id":"o1","type":"sold","payload":{"event_id":"o1", "price": 1.10}}'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('["sold",{"event_id":7},"note",[1]]', [("event 7 sold", [{"event_id": 7}, "note", [1]])]),
        ('["sold"]', [("invalid", "the event sold has no id: it has no argument")]),
        ('["sold","o1"]', [("invalid", "the event sold has no id: nothing stands at event_id")]),
        ('["sold",{"id":1}]', [("invalid", "the event sold has no id: nothing stands at event_id")]),
        ('{"event_id":1}', [("invalid", "an event is an array that begins with its name: ")]),
        ("[]", [("invalid", "an event is an array that begins with its name: ")]),
        ("[1]", [("invalid", "an event is an array that begins with its name: ")]),
        ("[", [("invalid", "no packet of Socket.IO: ")]),
        ("[" * 100_000, [("invalid", "no packet of Socket.IO: ")]),
        ("7" * 200 + "[]", [("invalid", "no packet of Socket.IO: ")]),
    ],
)  # fmt: skip
def test_arguments_and_what_is_no_event(text: str, expected: list[tuple[str, Any]]):
    found = became(event(text))
    assert [kind for kind, _ in found] == [kind for kind, _ in expected]
    for (_, value), (_, wanted) in zip(found, expected, strict=True):
        assert wanted in str(value) if isinstance(wanted, str) else value == wanted


def test_ids_may_stand_elsewhere_or_be_hashes_and_events_may_be_chosen():
    chosen = f"{ORDERS}?id={{a.b}}:{{n}}&events=sold,paid"
    messages = [event(f'["{name}",{{"a":{{"b":"x"}},"n":{n}}}]') for n, name in enumerate(("sold", "seen", "paid"))]
    assert [kind for kind, _ in became(*messages, source=chosen)] == ["event x:0 sold", "event x:2 paid"]
    ((kind, value),) = became(event('["sold","text"]'), source=f"{ORDERS}?id=sha256")
    assert (kind.startswith("event "), value) == (True, "text")
    ((kind, _),) = became(b'42["sold",{"event_id":1}]', source="socketio://127.0.0.1:9")
    assert kind == "event 1 sold"


PICTURE = (
    b'452-/orders,["picture",{"event_id":"p1","price":1.10,"a":{"_placeholder":true,"num":1}},'
    b'{"_placeholder":true,"num":0}]'
)


def test_attachments_stand_as_base64_where_they_belong():
    feed = feed_of(ORDERS)[1]
    assert [*feed.read(PICTURE), *feed.read(b"b\x00\xff"), *feed.read(b"2probe")][0].text == "3probe"
    (found,) = feed.read(b"b42[]")
    assert isinstance(found, FeedEvent)
    first, second = json.loads(bytes(found.payload))
    assert (first["event_id"], second) == ("p1", base64.b64encode(b"\x00\xff").decode())
    assert base64.b64decode(first["a"]) == b"42[]"
    assert b"1.10" in bytes(found.payload)


@pytest.mark.parametrize(
    ("messages", "why"),
    [
        ([PICTURE, b"bx", event('["sold",{"event_id":"o1"}]')], "the event lacks attachments"),
        ([PICTURE, b"b" + bytes(600_000), b"b" + bytes(600_000), b"bx"], "attachments have more than 1,048,576 bytes"),
        ([b'451-/orders,["p",{"event_id":1},{"_placeholder":true,"num":0},{"_placeholder":true,"num":0}]', b"bx"],
         "a place names no attachment, or one that stands elsewhere"),
        ([b'451-/orders,["p",{"event_id":1},{"_placeholder":true,"num":-1}]', b"bx"], "a place names no attachment"),
        ([b'451-/orders,["p",{"event_id":1},{"_placeholder":true,"num":"0"}]', b"bx"], "a place names no attachment"),
        ([b'451-/orders,["p",{"event_id":1}]', b"bx"], "an attachment has no place in the event"),
        ([b'450-/orders,["p",{"event_id":1},{"_placeholder":true,"num":0}]'], "a place names no attachment"),
        ([b'451001-/orders,["p",{}]', b"bx", b"by"], "more than 1,000 attachments"),
        ([b'459999999999-/orders,["p",{}]', b"bx"], "more than 1,000 attachments"),
        ([b'4599999999999999-/orders,["p",{}]', b"bx"], "no packet of Socket.IO"),
        ([b"bx"], "a binary message that belongs to no event"),
        ([event('["sold",{"event_id":1}]', "/other")], "the event is of the namespace /other; SOURCE can name it, too"),
        ([b'451-/other,["p",{"_placeholder":true,"num":0}]', b"bx"], "the event is of the namespace /other"),
        ([b"49/orders,"], "it is of no known kind"),
        ([b"4\xff"], "no packet of Socket.IO"),
    ],
)  # fmt: skip
def test_what_cannot_be_an_event_is_one_letter_with_a_reason(messages: list[bytes], why: str):
    letters = [value for kind, value in became(*messages) if kind == "invalid"]
    assert len(letters) == 1, letters
    assert why in str(letters[0])


def test_many_placeholders_of_a_large_attachment_do_not_make_a_larger_event():
    places = ",".join(['{"_placeholder":true,"num":0}'] * 20_000)
    feed = feed_of(ORDERS)[1]
    assert feed.read(f'451-/orders,["p",{{"event_id":1}},{places}]'.encode()) == ()
    (found,) = feed.read(b"b" + bytes(1_000_000))
    assert isinstance(found, Refused)


@pytest.mark.parametrize("data", ['[1,"a",null]', "null", "3", '"text"', "{}"])
def test_answers_and_other_control_messages_are_neither_events_nor_letters(data: str):
    assert became(b"0{}", b"3", b"6", f"43/orders,1{data}".encode(), b'40/orders,{"sid":"x"}') == []
    assert became(b'461-/orders,1[{"_placeholder":true,"num":0}]', b"bx") == []


def test_an_event_is_acknowledged_once_it_is_settled_and_one_that_is_not_stored_at_once():
    feed = feed_of(f"{ORDERS}?events=sold")[1]
    stored = take_in(feed, b'42/orders,13["sold",{"event_id":"o1"}]')
    assert not isinstance(stored, tuple)
    assert (len(stored.bodies), stored.sends) == (1, [])
    assert stored.receipt is not None
    assert feed.settled(stored.receipt.value).text == "43/orders,13[]"
    letter = take_in(feed, b'42/orders,14["sold",{}]')
    assert not isinstance(letter, tuple)
    assert letter.refused == 1
    assert letter.receipt is not None
    passed = take_in(feed, b'42/orders,15["seen",{}]')
    assert not isinstance(passed, tuple)
    assert (passed.bodies, passed.sends) == ([], ["43/orders,15[]"])
    cut = [b'451-/orders,16["sold",{"event_id":1}]', b'42/orders,17["sold",{"event_id":"o2"}]']
    assert became(*cut) == [
        ("invalid", "the event lacks attachments"), ("event o2 sold", {"event_id": "o2"}), ("ack", "43/orders,17[]"),
    ]  # fmt: skip
    default = feed_of("socketio://127.0.0.1:9/")[1]
    receipt = taking_of(list(default.read(b'451-0["x",{"event_id":1},{"_placeholder":true,"num":0}]'))).receipt
    assert receipt is None
    receipt = taking_of(list(default.read(b"bx"))).receipt
    assert receipt is not None
    assert default.settled(receipt.value).text == "430[]"


def test_a_server_that_sends_us_away_is_a_gap_and_a_new_connection():
    for message in (b"41/orders,", b"1"):
        assert [kind for kind, _ in became(message)] == ["missed", "again"]
    ((kind, why),) = became(b'44/orders,{"message":"expired"}')
    assert (kind, "expired" in str(why)) == ("stop", True)


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("socketio:///orders", "it names no host"),
        ("socketio://a,b/orders", "it names more than one host"),
        ("socketio://u:pw@a/orders", "Socket.IO has no user in an address; auth=FILE"),
        ("socketio://a/orders?token=x", "the option token is not known; known are auth, ca, events, id, path"),
        ("socketio://a/orders?id=a%20b", "id: 'a b' is no path"),
        ("socketio://a/orders?auth=", "the option auth is empty"),
        ("socketio://a/orders?id=a&id=b", "the option id occurs twice"),
        ("socketios://a/x%2Cy", "a namespace has no commas"),
    ],
)
def test_a_wrong_address_is_one_sentence(address: str, sentence: str):
    with pytest.raises(Misconfigured) as refused:
        feed_of(address)
    assert sentence in str(refused.value)
    assert "pw" not in str(refused.value)


# -- connections ----------------------------------------------------------------------------------


class Server:
    """Answers as Engine.IO 4 and Socket.IO do; the session can be recovered if ``pid`` is one."""

    def __init__(self) -> None:
        self.pid: str | None = None
        self.joined: list[str] = []
        self.refuses = ""
        self.clients: asyncio.Queue[ServerConnection] = asyncio.Queue()
        self.url = ""

    async def talk(self, client: ServerConnection) -> None:
        await client.send('0{"sid":"e","upgrades":[],"pingInterval":25000,"pingTimeout":20000}')
        self.joined.append(str(await client.recv()))
        if self.refuses:
            await client.send(f'44/orders,{{"message":"{self.refuses}"}}')
        else:
            await client.send(f"40/orders,{json.dumps({'sid': 's'} | ({'pid': self.pid} if self.pid else {}))}")
        self.clients.put_nowait(client)
        await client.wait_closed()


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[Server]:
    server = Server()
    async with serve(server.talk, "127.0.0.1", 0) as running:
        server.url = f"socketio://127.0.0.1:{next(iter(running.sockets)).getsockname()[1]}/orders"
        yield server


class Reading:
    """A source, and the gaps that it declared."""

    def __init__(self, url: str) -> None:
        self.gaps: list[str] = []
        name, feed = feed_of(url)
        self.source = FeedSource(name, feed, declare=self._declare, websocket=WebSocketOptions())

    def _declare(self, source: str, how: str, **more: Any) -> None:
        self.gaps.append(how)

    async def read(self, server: Server, *messages: str | bytes) -> list[str]:
        """Open a session, and return the ids of the events of these messages."""

        async def nothing() -> None:
            return None

        ids: list[str] = []
        async with self.source.open(nothing) as session, asyncio.timeout(10):
            client = await server.clients.get()
            for message in messages:
                await client.send(message)
            while len(ids) < sum(isinstance(one, str) for one in messages):
                batch = await session.take(100, 100_000)
                assert isinstance(batch, Batch)
                ids += [json.loads(body)["event_id"] for body in batch.bodies]
        return ids


async def test_text_and_binary_messages_are_told_apart_and_the_password_comes_from_a_file(tmp_path: Path):
    password = tmp_path / "auth.json"
    password.write_text('{"key":"sesame"}')
    async with serving() as server:
        reading = Reading(f"{server.url}?auth={password}")
        header = '451-/orders,["p",{"event_id":"p1"},{"_placeholder":true,"num":0}]'
        assert await reading.read(server, header, b"2") == ["p1"]
        password.write_text('{"key":"open"}')
        assert await reading.read(server, '42/orders,["p",{"event_id":"p2"}]') == ["p2"]
    assert server.joined == ['40/orders,{"key":"sesame"}', '40/orders,{"key":"open"}']
    assert reading.gaps == ["disconnected"]


async def test_a_recovered_session_is_no_gap_and_a_new_one_is():
    async with serving() as server:
        reading = Reading(server.url)
        server.pid = "p1"
        assert await reading.read(server, '42/orders,["p",{"event_id":1},"place1"]') == ["1"]
        asks = '42/orders,1["p",{"event_id":6},"text"]'  # the server gives no place to what must be acknowledged
        assert await reading.read(server, '42/orders,["p",{"event_id":2},"place2"]', asks) == ["2", "6"]
        assert reading.gaps == []
        server.pid = "p2"
        assert await reading.read(server, '42/orders,["p",{"event_id":3},"place3"]') == ["3"]
        assert reading.gaps == ["disconnected"]
        server.pid = None
        assert await reading.read(server, '42/orders,["p",{"event_id":4},"text"]') == ["4"]
        assert await reading.read(server, '42/orders,["p",{"event_id":5}]') == ["5"]
    assert reading.gaps == ["disconnected"] * 3
    asked = [json.loads(one.partition(",")[2] or "{}") for one in server.joined]
    assert asked == [
        {}, {"pid": "p1", "offset": "place1"}, {"pid": "p1", "offset": "place2"}, {"pid": "p2", "offset": "place3"}, {},
    ]  # fmt: skip


async def test_a_namespace_that_is_refused_says_why(tmp_path: Path):
    async with serving() as server:
        server.refuses = "who are you?"
        with pytest.raises(SourceEnded) as ended:
            await Reading(server.url).read(server)
        assert "the server refuses the namespace /orders" in ended.value.loss.why
        assert "who are you?" in ended.value.loss.why
        with pytest.raises(SourceEnded, match=r"nowhere\.json cannot be read"):
            await Reading(f"{server.url}?auth={tmp_path / 'nowhere.json'}").read(server)
