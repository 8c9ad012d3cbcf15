"""Any bytes from a server, in any pieces: a stream reports and answers what the library's protocol does."""

import asyncio
import contextlib
import hashlib
import itertools
import tracemalloc
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN, Protocol, Side
from websockets.server import ServerProtocol
from websockets.uri import parse_uri

from unlost.listener.core.oversized import HEAD_BYTES, Oversized
from unlost.listener.fast.websocket import ENOUGH_BYTES, LONGEST_FRAME, MESSAGE_BYTES, FastConnection

LIMIT = 1_000
Message = bytes | Oversized
DATA = (Opcode.CONT, Opcode.TEXT, Opcode.BINARY)


class StreamTransport(asyncio.Transport):
    """The transport of a stream. It records what is written, and whether reading is paused."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.reading = True

    def write(self, data: Any) -> None:
        self.written += bytes(data)

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.written += b"<end>"

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass


def sent(frame: Frame, *, mask: bool = False) -> bytes:
    return frame.serialize(mask=mask)


texts = st.binary(max_size=200) | st.sampled_from(
    [b"x" * 125, b"x" * 126, b"x" * LIMIT, b"y" * (LIMIT + 1), b"z" * 3 * HEAD_BYTES, b"w" * 70_000]
)
wholes = st.builds(Frame, st.sampled_from([Opcode.TEXT, Opcode.BINARY]), texts).map(sent)
controls = st.builds(Frame, st.sampled_from([Opcode.PING, Opcode.PONG]), st.binary(max_size=125)).map(sent)


@st.composite
def fragmented(draw: st.DrawFn) -> bytes:
    """A message in several frames, with pings in between. Some exceed the limit, by one frame or only together."""
    pieces = st.binary(max_size=90) | st.sampled_from([b"a" * 600, b"b" * (LIMIT + 1), b"c" * 2 * HEAD_BYTES])
    parts = [Frame(Opcode.TEXT, draw(pieces), fin=False)]
    parts += [Frame(Opcode.CONT, draw(pieces), fin=False) for _ in range(draw(st.integers(0, 3)))]
    parts.append(Frame(Opcode.CONT, draw(pieces)))
    return b"".join(sent(part) + draw(st.just(b"") | controls) for part in parts)


ends = st.sampled_from(
    [
        b"",
        sent(Frame(Opcode.CLOSE, b"\x03\xe8bye")),
        sent(Frame(Opcode.CLOSE, b"\x03")),
        sent(Frame(Opcode.TEXT, b"m"), mask=True),
        sent(Frame(Opcode.TEXT, b"x" * (LIMIT + 1))),
        sent(Frame(Opcode.TEXT, b"begun"))[:4],
        sent(Frame(Opcode.TEXT, b"x" * 300))[:3],
        b"\x81\x7f\xff\xff\xff\xff\xff\xff\xff\xff",
        sent(Frame(Opcode.CONT, b"of nothing")),
        sent(Frame(Opcode.TEXT, b"first", fin=False)) + sent(Frame(Opcode.TEXT, b"second")),
        sent(Frame(Opcode.TEXT, b"x" * LIMIT, fin=False)) + sent(Frame(Opcode.CONT, b"x")),
        b"\xc1\x02{}",
        b"\x83\x01x",
        b"\x89\x7e\x00\x7e" + b"x" * 126,
        b"\x89\x7e\x08\x00" + b"x" * 2048,
        b"\xc1\x7e\x08\x00" + b"x" * 2048,
        b"\x83\x7e\x08\x00" + b"x" * 2048,
        sent(Frame(Opcode.CONT, b"of nothing" * LIMIT)),
        sent(Frame(Opcode.TEXT, b"first", fin=False)) + sent(Frame(Opcode.TEXT, b"second" * LIMIT)),
        sent(Frame(Opcode.TEXT, b"begun" * LIMIT))[:4000],
    ]
)


def shaken(client: ClientProtocol) -> bytes:
    """The server's side of the handshake."""
    server = ServerProtocol()
    request = client.connect()
    client.send_request(request)
    server.receive_data(b"".join(client.data_to_send()))
    (asked,) = server.events_received()
    server.send_response(server.accept(asked))  # type: ignore[arg-type]
    return b"".join(server.data_to_send())


def kept(message: bytes) -> Message:
    """The part of a message that a stream keeps."""
    if len(message) <= LIMIT:
        return message
    return Oversized(len(message), hashlib.sha256(message).digest(), message[:HEAD_BYTES])


def by_the_library(frames: bytes) -> tuple[list[Message], bytes, bool]:
    """The messages in these frames, the answers, and whether the connection is still open."""
    client = ClientProtocol(parse_uri("ws://source/"), max_size=LONGEST_FRAME)
    client.receive_data(shaken(client))
    client.events_received()
    client.receive_data(frames)
    messages: list[Message] = []
    parts = b""
    for event in client.events_received():
        if isinstance(event, Frame) and event.opcode in DATA:
            parts += bytes(event.data)
            if event.fin:
                messages.append(kept(parts))
                parts = b""
    answered = b"".join(data or b"<end>" for data in client.data_to_send())
    return messages, unmasked(answered), client.state is OPEN


def unmasked(answered: bytes) -> bytes:
    """A client's frames without their random masks."""
    server = Protocol(Side.SERVER)
    ended = answered.endswith(b"<end>")
    server.receive_data(answered.removesuffix(b"<end>"))
    return b"".join(sent(one) for one in server.events_received() if isinstance(one, Frame)) + b"<end>" * ended


async def streaming(pieces: Sequence[bytes], largest: int = LIMIT) -> tuple[FastConnection, StreamTransport]:
    """A stream that received these pieces, after the server's handshake."""
    client = ClientProtocol(parse_uri("ws://source/"), max_size=LONGEST_FRAME)
    stream, wire = FastConnection(client, largest=largest, ping_interval=None), StreamTransport()
    stream.connection_made(wire)
    answer = shaken(client)
    first, *rest = pieces
    for piece in (answer[:70], answer[70:] + first, *rest):
        stream.data_received(piece)
    return stream, wire


@settings(max_examples=300, deadline=None)
@given(st.lists(wholes | wholes | controls | fragmented(), max_size=8), ends, st.data())
def test_a_stream_reports_and_answers_what_the_librarys_protocol_does(
    good: list[bytes], end: bytes, data: st.DataObject
) -> None:
    frames = b"".join(good) + end
    cuts = sorted({0, *data.draw(st.lists(st.integers(0, len(frames)), max_size=12)), len(frames)})
    pieces = [frames[a:b] for a, b in itertools.pairwise(cuts)] or [b""]

    async def received() -> tuple[list[Message], bytes, bool]:
        stream, wire = await streaming(pieces)
        stands = stream.protocol.state is OPEN
        answered = unmasked(wire.written)
        stream.connection_lost(None)
        messages: list[Message] = []
        with contextlib.suppress(ConnectionClosed):
            while True:
                taken = await stream.take(data.draw(st.integers(0, 5)), data.draw(st.integers(0, 500)))
                messages += [taken] if isinstance(taken, Oversized) else taken
        return messages, answered, stands

    assert asyncio.run(received()) == by_the_library(frames)


async def test_no_more_is_taken_than_asked_for_and_one_at_least() -> None:
    frames = [sent(Frame(Opcode.TEXT, b"x" * size)) for size in (400, 400, 400, 900, 1)]
    stream, _ = await streaming([b"".join(frames)])
    assert [len(one) for one in await stream.take(1, LIMIT)] == [400]
    assert [len(one) for one in await stream.take(9, 500)] == [400, 400], "the last one may exceed it"
    assert [len(one) for one in await stream.take(0, 0)] == [900], "a limit of zero still returns one"
    assert [len(one) for one in await stream.take(9, LIMIT)] == [1]


async def test_reading_pauses_while_enough_waits_and_goes_on_when_half_of_it_is_taken() -> None:
    frame = sent(Frame(Opcode.BINARY, b"x" * 64_000))
    stream, wire = await streaming([b"", *[frame] * (ENOUGH_BYTES // (64_000 + MESSAGE_BYTES))], largest=64_000)
    assert wire.reading
    stream.data_received(frame)
    assert not wire.reading
    await stream.take(1, 0)
    assert not wire.reading
    await stream.take(9, LIMIT * 1_000)
    assert wire.reading


async def test_a_waiting_take_returns_the_next_message_or_raises_the_end() -> None:
    stream, _ = await streaming([b""])
    waiting = asyncio.create_task(stream.take(9, LIMIT))
    await asyncio.sleep(0)
    stream.data_received(sent(Frame(Opcode.TEXT, b"late")))
    assert await waiting == [b"late"]
    waiting = asyncio.create_task(stream.take(9, LIMIT))
    await asyncio.sleep(0)
    stream.connection_lost(None)
    with pytest.raises(ConnectionClosed):
        await waiting


async def test_empty_messages_count_too_so_that_reading_pauses() -> None:
    many = ENOUGH_BYTES // MESSAGE_BYTES
    stream, wire = await streaming([b"", sent(Frame(Opcode.TEXT, b"")) * (many - 1)])
    assert wire.reading
    stream.data_received(sent(Frame(Opcode.TEXT, b"")))
    assert not wire.reading
    assert await stream.take(many, ENOUGH_BYTES) == [b""] * many
    assert wire.reading


async def test_only_the_measure_of_a_giant_is_ever_held() -> None:
    chunk, count = bytes(256 * 1024), 400
    stream, _ = await streaming([b"", b"\x82\x7f" + (len(chunk) * count).to_bytes(8, "big")])
    tracemalloc.start()
    for _ in range(count):
        stream.data_received(chunk)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < ENOUGH_BYTES
    stream.data_received(sent(Frame(Opcode.TEXT, b"next")))
    giant = Oversized(len(chunk) * count, hashlib.sha256(chunk * count).digest(), chunk[:HEAD_BYTES])
    assert [await stream.take(9, LIMIT), await stream.take(9, LIMIT)] == [giant, [b"next"]]


async def test_messages_that_arrive_before_the_close_frame_are_taken() -> None:
    stream, _ = await streaming([b"", sent(Frame(Opcode.TEXT, b"begun"))[:4]])
    stream.protocol.send_close(1001)
    stream.data_received(sent(Frame(Opcode.TEXT, b"begun"))[4:] + sent(Frame(Opcode.TEXT, b"after our close")))
    stream.data_received(sent(Frame(Opcode.CLOSE, b"\x03\xe9")) + sent(Frame(Opcode.TEXT, b"after its close")))
    assert stream.take_now(9, LIMIT) == [b"begun", b"after our close"]
    assert stream.take_now(9, LIMIT) == []
