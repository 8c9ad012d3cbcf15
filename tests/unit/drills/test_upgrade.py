"""An upgrade goes as documented: tables first, then one part after the other, each ready before the next stops."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.support.fakes import as_a
from unlost.ops.faults.drills.acts import upgrade
from unlost.ops.faults.drills.marks import ConsoleAt
from unlost.ops.faults.drills.stage import Stage


class _Upgraded:
    """A stage that writes down what is done to it. A part is ready only when it is asked for the second time."""

    listeners = ("a", "b")

    def __init__(self, url: str, done: list[str]) -> None:
        self.headers: dict[str, str] = {}
        self.listener_urls = (f"{url}/a", f"{url}/b")
        self.console = ConsoleAt(f"{url}/console")
        self.done = done

    async def letters(self) -> list[str]:
        self.done.append("letters")
        return ["of the earlier version"]

    async def migrate(self) -> None:
        self.done.append("migrate")

    async def stop(self, part: str) -> None:
        self.done.append(f"stop {part}")

    async def upgrade(self, part: str) -> None:
        self.done.append(f"upgrade {part}")

    async def start(self, part: str, *, empty: bool = False) -> None:
        assert not empty
        self.done.append(f"start {part}")

    async def producer_is_ready(self, part: str) -> None:
        self.done.append(f"ready {part}")


@pytest.fixture
def done() -> list[str]:
    return []


@pytest.fixture
def url(done: list[str]) -> Iterator[str]:
    asked: set[str] = set()

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            part = self.path.split("/")[1]
            self.send_response(200 if part in asked else 503)
            if part in asked:
                done.append(f"ready {part}")
            asked.add(part)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


async def test_tables_come_first_and_each_part_is_ready_before_the_next_stops(url: str, done: list[str]):
    await upgrade(as_a(Stage, _Upgraded(url, done)))
    parts = ("a", "b", "producer-1", "producer-2", "console")
    each = [f"{act} {part}" for part in parts for act in ("stop", "upgrade", "start", "ready")]
    assert done == ["letters", "migrate", *each]
