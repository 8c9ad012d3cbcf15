"""The publisher with a fixed rate, against a server that reads requests by their length."""

import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import pytest

from unlost.ops.bench import pacing
from unlost.ops.bench.client import answer_in
from unlost.ops.bench.pacing import Door, PacedPublisher


@contextmanager
def server(status: bytes = b"202 Accepted") -> Iterator[tuple[str, int, list[bytes]]]:
    bodies: list[bytes] = []

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            read = b""
            while data := self.request.recv(65_536):
                read += data
                while (found := answer_in(read)) is not None:
                    (_, body), read = found
                    bodies.append(body)
                    self.request.sendall(b"HTTP/1.1 %b\r\nContent-Length: 2\r\n\r\n{}" % status)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as listening:
        listening.daemon_threads = True
        threading.Thread(target=listening.serve_forever, args=(0.01,), daemon=True).start()
        yield *listening.server_address, bodies
        listening.shutdown()


@contextmanager
def paced(host: str, port: int) -> Iterator[PacedPublisher]:
    publisher = PacedPublisher(Door(host, port))
    try:
        yield publisher
    finally:
        publisher.close()


def test_each_is_due_at_its_own_time_and_all_are_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacing, "CONNECTIONS", 3)
    monkeypatch.setattr(pacing, "MAX_UNANSWERED", 4)
    requests = [b"%d" % number for number in range(50)]
    with server() as (host, port, bodies), paced(host, port) as publisher:
        due = publisher.send(requests, 10_000.0)
    assert sorted(bodies) == sorted(requests)
    assert [later - earlier for earlier, later in pairwise(due)] == pytest.approx([1e-4] * 49, abs=1e-6)


def test_it_publishes_until_it_has_ended_and_returns_how_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacing, "CONNECTIONS", 3)
    answers = iter([False] * 7 + [True])
    with server() as (host, port, bodies), paced(host, port) as publisher:
        count = publisher.send_until(
            lambda: next(answers), lambda number: b"%d" % number, 10_000.0, time.perf_counter()
        )
    assert count == 7
    assert sorted(bodies) == [b"%d" % number for number in range(7)]


def test_an_answer_that_is_no_success_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacing, "CONNECTIONS", 3)
    with (
        server(b"503 Service Unavailable") as (host, port, _),
        paced(host, port) as publisher,
        pytest.raises(RuntimeError, match="503"),
    ):
        publisher.send([b"{}"], 1_000.0)


def test_answers_are_distinguished() -> None:
    one = b"HTTP/1.1 202 Accepted\r\ncontent-length: 2\r\n\r\n"
    assert answer_in(one + b"{") is None
    assert answer_in(one[:-2]) is None
    assert answer_in(one + b"{}" + one) == ((one[:-4], b"{}"), one)
