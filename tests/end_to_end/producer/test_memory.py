"""What the producer, with its reading process, takes of memory for one publisher."""

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import psutil
import pytest

from tests.end_to_end.producer.conftest import RunningProducer

MEBIBYTE = 1024 * 1024
BODY = 64 * MEBIBYTE
EVENT = b'{"event_id":"event-%06d","payload":"' + b"x" * 900 + b'"}\n'

pytestmark = pytest.mark.timeout(300)


@dataclass
class Grown:
    before: float
    most: float = 0.0

    @property
    def mebibytes(self) -> float:
        return (self.most - self.before) / MEBIBYTE


def resident(pid: int) -> int:
    """Of the process and all its children."""
    process = psutil.Process(pid)
    total = process.memory_info().rss
    for child in process.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            total += child.memory_info().rss
    return total


@contextlib.contextmanager
def growing(pid: int) -> Iterator[Grown]:
    grown = Grown(resident(pid))
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.02):
            grown.most = max(grown.most, resident(pid))

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield grown
    finally:
        over.set()
        looking.join()
        grown.most = max(grown.most, resident(pid))


def posted(producer: RunningProducer, body: bytes) -> tuple[int, bytes]:
    """The status, and the end of the answer."""
    end = b""
    with producer.http.stream("POST", "/publish/batch", content=body, timeout=240) as answer:
        for piece in answer.iter_bytes():
            end = (end + piece)[-200:]
    return answer.status_code, end


@pytest.mark.parametrize(
    ("line", "ended"),
    [
        pytest.param(b"1\n", (413, b'bytes"}\n'), id="invalid"),
        pytest.param(b"\n", (200, b""), id="blank"),
    ],
)
def test_a_body_of_short_lines_costs_little(producer: RunningProducer, line: bytes, ended: tuple[int, bytes]) -> None:
    posted(producer, b"".join(EVENT % number for number in range(200)))  # this starts the reading process
    with growing(producer.process.pid) as grown:
        status, end = posted(producer, line * (BODY // len(line)))
    assert (status, end[-8:]) == ended
    assert grown.mebibytes < 200
