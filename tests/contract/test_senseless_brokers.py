"""Whatever a broker sends, refuses or leaves out: each source says why there is no session, and is tried again."""

import asyncio
import contextlib
import gc
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from tests.support.cursors import FakeCursors
from tests.support.reading import reading
from unlost.listener.core.facts import SourceConnected, SourceLost
from unlost.listener.ports.source import Source
from unlost.listener.source.brokers import jetstream, kafka, rabbitmq, rabbitmq_consumer
from unlost.listener.source.brokers.address import read_address
from unlost.listener.source.brokers.kafka_session import Positions
from unlost.ops.system.ports import LOOPBACK

# Libraries leave such connections to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
NATS_INFO = b'INFO {"server_id":"x","version":"2.15.0","max_payload":1048576,"headers":true,"jetstream":true}\r\n'


def nats(host: str, options: str = "") -> Source:
    address = read_address(f"nats://{host}/S{options}", what="STREAM", port=4222, options=jetstream.OPTIONS)
    given = jetstream.options_of(address, group="g", lease=30, start_from="oldest", max_events=1_000)
    return jetstream.JetStream(given, lambda *_, **__: None)


def topic(host: str, options: str = "") -> Source:
    address = read_address(f"kafka://{host}/t{options}", what="TOPIC", port=9092, options=kafka.OPTIONS)
    positions = Positions(FakeCursors(), "g", lambda: None, lambda *_, **__: None)
    return kafka.Kafka(kafka.options_of(address, group="g", start_from="oldest"), positions)


def queue(host: str, options: str = "") -> Source:
    address = read_address(f"amqp://{host}/q{options}", what="QUEUE", port=5672, options=rabbitmq.OPTIONS)
    return rabbitmq.Rabbit(rabbitmq.options_of(address, max_events=1_000))


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Libraries that got nonsense may wait for ever: then this limit ends it."""
    for adapter in (jetstream, kafka, rabbitmq, rabbitmq_consumer):
        monkeypatch.setattr(adapter, "OPEN_SECONDS", 2.0)


KINDS = {"jetstream": nats, "kafka": topic, "rabbitmq": queue}


def saying(*parts: bytes, reads: bool = False) -> Answer:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            for part in parts:
                if reads:
                    await reader.read(1_000)
                writer.write(part)
                await writer.drain()
            writer.close()

    return answer


SENSELESS: dict[str, Answer] = {
    "nothing": saying(),
    "text": saying(b"HTTP/1.1 400 Bad Request\r\n\r\n", reads=True),
    "zeros": saying(bytes(5_000), reads=True),
    "ones": saying(b"\xff" * 5_000, reads=True),
    "a short answer": saying(b"\x00\x00\x00\x06\x00\x00\x00\x00\x00\x23", reads=True),
    "half a frame of AMQP": saying(b"\x01\x00\x00\x00\x00\x00\x20\x00\x0a\x00\x0a\x00\x09", reads=True),
    "a wrong frame of AMQP": saying(b"\x01\x00\x00\x00\x00\x00\x04\x00\x0a\x00\x63\xce", reads=True),
    "INFO without JSON": saying(b"INFO nonsense\r\n"),
    "INFO with a list": saying(b"INFO [1]\r\n"),
    "an error of NATS": saying(NATS_INFO, b"-ERR 'Authorization Violation'\r\n", reads=True),
    "PONG, then text": saying(NATS_INFO + b"PONG\r\n", b"MSG a b c d e f\r\n" * 3, reads=True),
}


@contextlib.asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[str]:
    server = await asyncio.start_server(answer, LOOPBACK, 0)
    try:
        yield f"{LOOPBACK}:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        gc.collect()


async def losses(source: Source, times: int = 2) -> list[SourceLost]:
    async with reading("", source=source) as one:
        await one.until(lambda r: len(r.of(SourceLost)) >= times, 30)
        assert not one.of(SourceConnected)
        return one.of(SourceLost)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_server_that_makes_no_sense_ends_no_reader(kind: str) -> None:
    """All answers are tried at once: libraries wait for seconds."""

    async def ask(answer: Answer) -> list[SourceLost]:
        async with serving(answer) as host:
            return await losses(KINDS[kind](host))

    found = dict(zip(SENSELESS, await asyncio.gather(*map(ask, SENSELESS.values())), strict=True))
    assert all(one.why for lost in found.values() for one in lost)


@pytest.mark.parametrize("kind", KINDS)
async def test_no_server_is_one_sentence(kind: str) -> None:
    with socket.socket() as free:
        free.bind((LOOPBACK, 0))  # and does not listen
        lost = await losses(KINDS[kind](f"{LOOPBACK}:{free.getsockname()[1]}"))
    gc.collect()
    assert all(one.why and not one.traceback for one in lost)
