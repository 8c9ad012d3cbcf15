"""The memory of a listener's process, against a source that chooses each byte that it sends."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from websockets.http11 import Request
from websockets.server import ServerProtocol

from tests.end_to_end.faults.conftest import ListenerProcess, frame, frames, letters
from tests.support.listeners import rows_of
from tests.support.watched import MEBIBYTE, watching

MAX_BYTES = 64
"""The default, in MiB."""
MAX_EVENTS = "2000"
"""So that the events behind them come sooner."""
LINE = b"y\n"
GIANT = 2_900_000_000
GIANT_SHA256 = "b317a36461aaecf3bd9ce35f90cfa0c05425a25b3319e0ad61648a69720b271b"
"""Of its content: ``yes | head -c 2900000000 | sha256sum``."""
EMPTY, EMPTIES = b"\x81\0", 2_000_000
UNREAD = 256 * 1024
"""Bytes that wait in the kernel. While it is read, all that waits is read at once, up to as much."""
LOOKS = 10

pytestmark = [pytest.mark.timeout(300), pytest.mark.long]

Send = Callable[[asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Hostile:
    """A source that speaks the protocol. Its first connection is hostile, any other gets ordinary events."""

    url: str
    connections: int = 0
    writer: asyncio.StreamWriter | None = None

    def reset(self) -> None:
        """Reset the connection. Whatever the listener has not read is gone."""
        assert self.writer is not None
        at_once = struct.pack("ii", 1, 0)
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
        self.writer.transport.abort()


@contextlib.asynccontextmanager
async def hostile(send: Send, *later: str) -> AsyncIterator[Hostile]:
    source = Hostile("")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        protocol = ServerProtocol()
        protocol.receive_data(await reader.readuntil(b"\r\n\r\n"))
        request = protocol.events_received()[0]
        assert isinstance(request, Request)
        protocol.send_response(protocol.accept(request))
        writer.write(b"".join(protocol.data_to_send()))
        source.connections += 1
        source.writer = writer
        with contextlib.suppress(ConnectionError):
            if source.connections == 1:
                await send(writer)
            else:
                writer.write(b"".join(map(framed, later)))
            await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    source.url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    try:
        yield source
    finally:
        server.close()


def header(size: int) -> bytes:
    """The head of a text frame (RFC 6455, section 5.2)."""
    return b"\x81\x7f" + size.to_bytes(8, "big")


def framed(message: str) -> bytes:
    return header(len(message)) + message.encode()


async def repeated(writer: asyncio.StreamWriter, piece: bytes, size: int) -> None:
    """Send a piece again and again, as fast as it is taken."""
    pieces = piece * (MEBIBYTE // len(piece))
    for _ in range(size // len(pieces)):
        writer.write(pieces)
        await writer.drain()
    writer.write(pieces[: size % len(pieces)])
    await writer.drain()


@contextlib.asynccontextmanager
async def listening(servers: dict, source: Hostile, processes: list[ListenerProcess]) -> AsyncIterator[ListenerProcess]:
    one = ListenerProcess(
        servers["directory"], "a", redis_url=servers["redis_url"], database_url=servers["database_url"],
        ws_url=source.url, max_events=MAX_EVENTS,
    )  # fmt: skip
    processes.append(one)
    await asyncio.to_thread(one.start)
    yield one
    assert await asyncio.to_thread(one.child.stop) == 0


async def until_stored(servers: dict, *ids: str) -> None:
    async with asyncio.timeout(200):
        while {row["event_id"] for row in await rows_of(servers["database_url"])} != set(ids):  # noqa: ASYNC110  rows of another process
            await asyncio.sleep(0.1)


async def test_a_giant_costs_no_memory_and_its_letter_has_its_measure(servers: dict, processes: list[ListenerProcess]):
    going = asyncio.Event()

    async def send(writer: asyncio.StreamWriter) -> None:
        await going.wait()
        writer.write(framed(frame("before")) + header(GIANT))
        await repeated(writer, LINE, GIANT)
        writer.write(framed(frame("after")))

    async with hostile(send) as source, listening(servers, source, processes) as one:
        with watching(one.child.pid or 0, one.url) as seen:
            going.set()
            await until_stored(servers, "before", "after")
        assert source.connections == 1
    assert seen.most < (MAX_BYTES + 64) * MEBIBYTE, seen.most
    (letter,) = letters(servers["directory"])
    assert (letter.reason, letter.raw_length, letter.raw_sha256) == ("invalid", GIANT, GIANT_SHA256)
    assert letter.raw == LINE * 2_048


def unread(source: Hostile) -> int:
    """Bytes that the kernel holds for the listener, since it does not read them."""
    here = f"{urlsplit(source.url).port:04X}"
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, _, remote, state, queues, *_ = line.split()
        if state == "01" and remote.endswith(f":{here}"):
            return int(queues.partition(":")[2], 16)
    return 0


async def test_millions_of_empty_frames_wait_at_the_source(servers: dict, processes: list[ListenerProcess]):
    """Reading pauses while they are handled one after the other, and each probe is answered."""
    going = asyncio.Event()

    async def send(writer: asyncio.StreamWriter) -> None:
        await going.wait()
        await repeated(writer, EMPTY, len(EMPTY) * EMPTIES)

    later = frames("later", 5)
    async with hostile(send, *later) as source, listening(servers, source, processes) as one:
        with watching(one.child.pid or 0, one.url) as seen:
            going.set()
            paused = 0
            async with asyncio.timeout(100):
                while paused < LOOKS:
                    await asyncio.sleep(0.1)
                    paused += unread(source) > UNREAD
            source.reset()
            await until_stored(servers, *(f"later{number}" for number in range(5)))
        assert source.connections == 2
    assert seen.growth < 100, seen.growth
    (letter,) = letters(servers["directory"])
    assert (letter.reason, letter.raw) == ("invalid", b"")
