"""The system of the pictures: two listeners with fault proxies, a console, and orders, some of which fail."""

import contextlib
import itertools
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from unlost.ops.faults.drills.marks import ConsoleAt
from unlost.ops.faults.drills.wires import ProxyWires, proxied
from unlost.ops.kit.access.table import new_token
from unlost.ops.system.layout import Layout, free_ports
from unlost.ops.system.system import System

EVERY = 0.03
"""Seconds from one order of the load to the next."""
AWAY, NEGATIVE = 18, 5
"""How many orders fail because a service is away, and because they never can succeed."""
LETTERS_WITHIN = 60.0


@dataclass
class Scene:
    """The running system."""

    system: System
    wires: ProxyWires
    console: ConsoleAt
    token: str
    back: Path

    @property
    def one_failed(self) -> str:
        """The id of an order that failed."""
        return "order-north-3"

    def stock_is_back(self) -> None:
        """From now on the service answers."""
        self.back.touch()

    @contextlib.contextmanager
    def load(self) -> Iterator[None]:
        """Publish orders until the block ends."""
        ended = threading.Event()
        thread = threading.Thread(target=self._publish_until, args=(ended,), name="load")
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _publish_until(self, ended: threading.Event) -> None:
        with self._client(self.system.layout.producer_url) as client:
            for number in itertools.count(time.time_ns() // 1_000_000_000):
                if ended.wait(EVERY):
                    return
                _publish(client, f"order-{number}-{time.monotonic_ns() % 1000}", total=12.5)

    def publish_failing(self) -> None:
        """Publish the orders that fail."""
        with self._client(self.system.layout.producer_url) as client:
            for number in range(1, AWAY + 1):
                _publish(client, f"order-north-{number}", total=12.5, warehouse="north")
            for number in range(1, NEGATIVE + 1):
                _publish(client, f"order-negative-{number}", total=-1)

    def await_letters(self) -> None:
        """Wait until all orders that fail are dead letters. Polled, because another process reports no facts."""
        deadline = time.monotonic() + LETTERS_WITHIN
        with self._client(self.console.url) as client:
            while client.get("/api/letters").json()["count"] < AWAY + NEGATIVE:
                assert time.monotonic() < deadline, "the letters did not come"
                time.sleep(0.2)

    def _client(self, url: str) -> httpx.Client:
        bearer = {"authorization": f"Bearer {self.token}"}
        return httpx.Client(base_url=url, headers=bearer, timeout=20, trust_env=False)


def _publish(client: httpx.Client, event_id: str, **payload: object) -> None:
    event = {"event_id": event_id, "type": "order.created", "payload": payload}
    client.post("/publish", json=event).raise_for_status()


@contextlib.contextmanager
def played() -> Iterator[Scene]:
    """Run the system within the block."""
    directory = Path(tempfile.mkdtemp(prefix="unlost-pictures-"))
    directory.chmod(0o711)  # if this user is root, PostgreSQL runs as another user
    token, ports, back = new_token(), free_ports(console=True), directory / "back"
    settings = {
        "handler": "tests.pictures.handlers:app", "handle_delay": "0.3", "lease": "5.0", "STOCK_IS_BACK": str(back),
    }  # fmt: skip
    try:
        with proxied(directory, ports, needed=True) as wires:
            assert wires is not None
            (directory / "authorization").write_text(f"authorization: Bearer {token}\n")
            layout = Layout(directory, ports, settings, wires.route)
            settings["source_name"] = layout.stream_url  # both proxies lead to one source
            system = System(layout.with_tokens(), lambda step: None, threading.Event())
            try:
                system.start()
                yield Scene(system, wires, ConsoleAt(str(layout.console_url), token), token, back)
            finally:
                system.stop()
    finally:
        shutil.rmtree(directory, ignore_errors=True)
