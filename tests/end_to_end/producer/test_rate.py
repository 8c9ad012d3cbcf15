"""The rate of requests with one object each, over HTTP, with each object on disk before its answer."""

import re
import socket
import time
from contextlib import ExitStack
from urllib.parse import urlsplit

import pytest

from tests.end_to_end.producer.conftest import RunningProducer

STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")
CONNECTIONS, EACH, WANTED = 64, 50, 600.0


@pytest.mark.parametrize("path", ["/publish", "/api/v1/ddup_service/events"])
def test_one_producer_answers_more_than_600_requests_a_second(producer: RunningProducer, path: str) -> None:
    host, _, port = urlsplit(producer.url).netloc.partition(":")
    with ExitStack() as stack:
        connections = [
            stack.enter_context(socket.create_connection((host, int(port)), timeout=30)) for _ in range(CONNECTIONS)
        ]
        began = time.perf_counter()
        for client, connection in enumerate(connections):
            connection.sendall(b"".join(request(path, client, number) for number in range(EACH)))
        answers = [statuses(connection) for connection in connections]
        rate = CONNECTIONS * EACH / (time.perf_counter() - began)
    print(f"{path}: {rate:,.0f} requests a second")
    assert answers == [[202] * EACH] * CONNECTIONS
    assert rate > WANTED


def request(path: str, client: int, number: int) -> bytes:
    """One object, unlike all others."""
    body = b'{"client":%d,"number":%d}' % (client, number)
    return b"POST %b HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n%b" % (path.encode(), len(body), body)


def statuses(connection: socket.socket) -> list[int]:
    """The status of each answer, in order."""
    read = b""
    while len(found := STATUS.findall(read)) < EACH:
        data = connection.recv(65_536)
        assert data, "the producer closed the connection"
        read += data
    return [int(one) for one in found]
