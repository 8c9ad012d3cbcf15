"""The promises of a connection to a source, with a real server: for the fast one and its ordinary twin."""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from unlost.listener.core.oversized import HEAD_BYTES, Oversized
from unlost.listener.fast.websocket import open_stream
from unlost.listener.source.websocket import messages
from unlost.listener.source.websocket.connection import Connection, Open, WebSocketOptions
from unlost.listener.source.websocket.messages import open_messages

LIMIT = 1_000
Message = bytes | Oversized
Serve = Callable[[ServerConnection], Awaitable[None]]


@pytest.fixture(params=[open_messages, open_stream], ids=["plain", "fast"])
def opened(request: pytest.FixtureRequest) -> Open:
    return request.param


@contextlib.asynccontextmanager
async def connected(opened: Open, serving: Serve) -> AsyncIterator[Connection]:
    async with serve(serving, "127.0.0.1", 0, compression=None, max_size=None) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        url = f"ws://127.0.0.1:{port}/"
        async with opened(url, WebSocketOptions(max_frame=LIMIT)) as connection:
            yield connection


async def until(connection: Connection, count: int, *, most: int = 9, size: int = 100_000) -> list[Message]:
    """Take that many messages."""
    taken: list[Message] = []
    while len(taken) < count:
        frames = await connection.take(most, size)
        taken += [frames] if isinstance(frames, Oversized) else frames
    return taken


def sending(*messages: str | bytes | Sequence[str]) -> Serve:
    async def serving(client: ServerConnection) -> None:
        for message in messages:
            await client.send(message)
        await client.wait_closed()

    return serving


def kept(message: bytes) -> Oversized:
    return Oversized(len(message), hashlib.sha256(message).digest(), message[:HEAD_BYTES])


async def test_messages_come_in_order_whatever_their_form(opened: Open) -> None:
    async with connected(opened, sending("text", b"bytes", "", ["in ", "three ", "parts"], "x" * LIMIT)) as connection:
        assert await until(connection, 5) == [b"text", b"bytes", b"", b"in three parts", b"x" * LIMIT]
        assert connection.received > LIMIT


async def test_an_oversized_message_is_measured_and_the_next_one_follows(opened: Open) -> None:
    giant, parts = "y" * 5 * HEAD_BYTES, ["a" * 600, "b" * 600]
    async with connected(opened, sending("one", giant, "two", parts, "three")) as connection:
        taken = await until(connection, 5)
    assert taken == [b"one", kept(giant.encode()), b"two", kept("".join(parts).encode()), b"three"]


async def test_the_plain_way_holds_few_large_messages_that_are_not_taken() -> None:
    """The fast way holds none: it measures them as they arrive."""
    sent = 0

    async def serving(client: ServerConnection) -> None:
        nonlocal sent
        with contextlib.suppress(ConnectionClosed):
            for _ in range(24):
                await client.send(b"z" * 4 * 1024 * 1024)
                sent += 1
            await client.wait_closed()

    async with connected(open_messages, serving) as connection:
        async with asyncio.timeout(20):
            while connection.transport.is_reading():  # noqa: ASYNC110  a paused transport announces nothing
                await asyncio.sleep(0.01)
        assert sent < 12, "five wait, one is incomplete, and the kernel has the rest"
        connection.transport.abort()


async def test_no_more_is_taken_than_was_asked_for(opened: Open) -> None:
    async with connected(opened, sending(*["m"] * 10)) as connection:
        taken: list[bytes] = []
        while len(taken) < 10:
            frames = await connection.take(2, 100)
            assert not isinstance(frames, Oversized)
            assert 1 <= len(frames) <= 2
            taken += frames


async def test_a_cancelled_take_loses_nothing(opened: Open) -> None:
    go_on = asyncio.Event()

    async def serving(client: ServerConnection) -> None:
        await client.send("first")
        await go_on.wait()
        await client.send("second")
        await client.wait_closed()

    async with connected(opened, serving) as connection:
        assert await until(connection, 1) == [b"first"]
        taking = asyncio.create_task(connection.take(9, 100))
        await asyncio.sleep(0)  # now it waits
        taking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await taking
        go_on.set()
        assert await until(connection, 1) == [b"second"]


async def test_the_last_messages_are_taken_before_the_close_is_raised(opened: Open) -> None:
    async def serving(client: ServerConnection) -> None:
        await client.send("last")
        await client.close(4000, "enough")

    async with connected(opened, serving) as connection:
        assert await until(connection, 1) == [b"last"]
        for _ in range(2):
            with pytest.raises(ConnectionClosed) as ended:
                await connection.take(9, 100)
            assert ended.value.rcvd is not None
            assert (ended.value.rcvd.code, ended.value.rcvd.reason) == (4000, "enough")
        with pytest.raises(ConnectionClosed):
            await connection.send("too late")
        with pytest.raises(ConnectionClosed):
            await connection.ping()


async def test_the_rest_is_what_had_arrived_when_the_connection_ended(opened: Open) -> None:
    async def serving(client: ServerConnection) -> None:
        for message in ("a", "b", "y" * 2 * LIMIT, "c"):
            await client.send(message)
        await client.close()

    async with connected(opened, serving) as connection:
        async with asyncio.timeout(10):
            while not connection.transport.is_closing():  # noqa: ASYNC110  nothing announces it
                await asyncio.sleep(0.001)
    rest: list[Message] = []
    while frames := await connection.take_rest(9, 100_000):
        rest += [frames] if isinstance(frames, Oversized) else frames
    assert rest == [b"a", b"b", kept(b"y" * 2 * LIMIT), b"c"]
    assert not await connection.take_rest(9, 100_000)


async def test_an_aborted_connection_ends_a_take_that_waits(opened: Open) -> None:
    async with connected(opened, sending()) as connection:
        taking = asyncio.create_task(connection.take(9, 100))
        await asyncio.sleep(0)  # now it waits
        connection.transport.abort()
        with pytest.raises(ConnectionClosed):
            await taking


async def test_reports_and_pings_go_both_ways(opened: Open) -> None:
    reported: list[str | bytes] = []

    async def serving(client: ServerConnection) -> None:
        reported.append(await client.recv())
        await client.send("heard")
        await client.wait_closed()

    async with connected(opened, serving) as connection:
        assert connection.response is not None
        assert connection.response.headers["Upgrade"] == "websocket"
        await (await connection.ping())
        await connection.send("settled")
        assert await until(connection, 1) == [b"heard"]
    assert reported == ["settled"]


async def test_the_ordinary_connection_holds_no_more_than_its_longest_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "SPARE_BYTES", LIMIT)
    async with connected(open_messages, sending("one", "z" * (2 * LIMIT + 1))) as connection:
        assert await until(connection, 1) == [b"one"]
        with pytest.raises(ConnectionClosed) as ended:
            await connection.take(9, 100)
    assert ended.value.sent is not None
    assert ended.value.sent.code == 1009
