"""Memory of the producer and its parse process, for one publisher, and for clients that do not read."""

import contextlib
import re
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from tests.end_to_end.producer.conftest import RunningProducer

MEBIBYTE = 1024 * 1024
BODY = 64 * MEBIBYTE
CLIENTS = 1_000
EVERY = 0.02
LOOKS = 20
"""After so many looks at the memory, children are looked for again: that reads about all processes of the machine."""
SENT = re.compile(r"^unlost_producer_frames_sent_total (\S+)", re.MULTILINE)
EVENT = b'{"event_id":"event-%06d","payload":"' + b"x" * 900 + b'"}\n'

pytestmark = [pytest.mark.timeout(300), pytest.mark.long]


def sent_by(producer: RunningProducer) -> int:
    found = SENT.search(producer.http.get("/metrics").text)
    assert found is not None
    return int(float(found[1]))


@dataclass
class Grown:
    before: float
    most: float = 0.0

    @property
    def mebibytes(self) -> float:
        return (self.most - self.before) / MEBIBYTE


def family(pid: int) -> list[psutil.Process]:
    """The process and all its children."""
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def resident(processes: list[psutil.Process]) -> int:
    """The memory of these processes."""
    total = 0
    for one in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            total += one.memory_info().rss
    return total


@contextlib.contextmanager
def growing(pid: int) -> Iterator[Grown]:
    grown = Grown(resident(family(pid)))
    over = threading.Event()

    def look() -> None:
        processes: list[psutil.Process] = []
        for number in count():
            if number % LOOKS == 0:
                processes = family(pid)
            grown.most = max(grown.most, resident(processes))
            if over.wait(EVERY):
                return

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield grown
    finally:
        over.set()
        looking.join()
        grown.most = max(grown.most, resident(family(pid)))


def posted(producer: RunningProducer, body: bytes) -> tuple[int, bytes]:
    """The status, and the end of the answer."""
    end = b""
    with producer.http.stream("POST", "/publish/batch", content=body, timeout=240) as answer:
        for piece in answer.iter_bytes():
            end = (end + piece)[-200:]
    return answer.status_code, end


@pytest.mark.parametrize(
    ("line", "size", "ended"),
    [
        pytest.param(b"1\n", BODY, (413, b'bytes"}\n'), id="invalid"),
        pytest.param(b"\n", BODY // 4, (200, b""), id="blank"),
    ],
)
def test_a_body_of_short_lines_costs_little(
    producer: RunningProducer, line: bytes, size: int, ended: tuple[int, bytes]
) -> None:
    posted(producer, b"".join(EVENT % number for number in range(200)))  # this starts the parse process
    with growing(producer.process.pid) as grown:
        status, end = posted(producer, line * (size // len(line)))
    assert (status, end[-8:]) == ended
    assert grown.mebibytes < (200 if size == BODY else 80)


def opened(producer: RunningProducer, after: str) -> socket.socket:
    parts = urlsplit(producer.stream)
    one = socket.socket()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    one.settimeout(30)
    one.connect((parts.hostname, parts.port))
    one.sendall(
        b"GET /?after=%b HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n" % after.encode()
    )
    assert one.recv(12) == b"HTTP/1.1 101"
    return one


def until_nothing_is_sent(producer: RunningProducer) -> None:
    """Wait until all sockets are full."""
    before, now = -1, 0
    while before != now or not now:
        time.sleep(1)
        before, now = now, sent_by(producer)


@pytest.mark.parametrize("where", ["behind", "live"])
def test_clients_that_do_not_read_cost_little(producer: RunningProducer, where: str) -> None:
    with contextlib.ExitStack() as stack, growing(producer.process.pid) as grown:
        first = httpx.get(f"{producer.url}/api/journal/groups", trust_env=False).json()["oldest"]

        def publish() -> None:
            for start in range(0, 20_000, 2_000):
                body = b"".join(EVENT % n for n in range(start, start + 2_000))
                assert producer.http.post("/publish/batch", content=body).status_code == 200

        if where == "behind":
            publish()
        for _ in range(CLIENTS):
            stack.callback(opened(producer, first).close)
        assert producer.http.get("/health").json()["clients"] == CLIENTS
        if where == "live":
            publish()
        until_nothing_is_sent(producer)
    assert grown.mebibytes < 150
