"""``unlost listener --reload``: a change of the user's code is at work for the next event, and loses none."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.end_to_end.producer.conftest import RunningProducer
from unlost.ops.system.layout import executable

SHOP = """
from pathlib import Path

from unlost import App, Delivery

app = App()


@app.otherwise
async def keep(event: Delivery) -> None:
    with Path("handled").open("a") as file:
        file.write(event.event_id + "VERSION\\n")
"""


class Developer:
    """Somebody who edits ``shop.py`` while the listener runs."""

    def __init__(self, directory: Path, environment: dict[str, str]) -> None:
        self.directory = directory
        self.log = directory / "log"
        self.save(" one")
        command = [str(executable("unlost")), "listener", "--reload"]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, cwd=directory, env={**os.environ, **environment}, stderr=log)

    def save(self, version: str) -> None:
        (self.directory / "shop.py").write_text(SHOP.replace("VERSION", version))

    def until(self, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 40
        while not holds():
            assert time.monotonic() < deadline, self.log.read_text()
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.05)

    def until_handled(self, *wanted: str) -> None:
        file = self.directory / "handled"
        self.until(lambda: file.exists() and file.read_text().splitlines() == list(wanted))

    def until_said(self, text: str) -> None:
        self.until(lambda: text in self.log.read_text())


@pytest.fixture
def shop(redis_url: str, database_url: str, tmp_path: Path) -> Iterator[tuple[Developer, RunningProducer]]:
    producer = RunningProducer(tmp_path / "journal.sqlite")
    producer.start()
    directory = tmp_path / "shop"
    directory.mkdir()
    environment = {
        "INSTANCE_ID": "a", "PORT": "0", "WS_URL": producer.stream, "REDIS_URL": redis_url,
        "DATABASE_URL": database_url, "HANDLER": "shop:app", "LEASE": "2",
    }  # fmt: skip
    developer = Developer(directory, environment)
    yield developer, producer
    if developer.process.poll() is None:
        developer.process.terminate()
    developer.process.wait(30)
    producer.end()


@pytest.mark.timeout(150)
def test_a_change_is_at_work_for_the_next_event_and_a_mistake_waits_for_the_next_change(
    shop: tuple[Developer, RunningProducer],
) -> None:
    developer, producer = shop
    producer.http.post("/publish", json={"event_id": "1"})
    developer.until_handled("1 one")
    developer.save(" two!")
    developer.until_said("reload: shop.py changed")
    producer.http.post("/publish", json={"event_id": "2"})
    developer.until_handled("1 one", "2 two!")
    (developer.directory / "shop.py").write_text("def broken(:\n")
    developer.until_said("reload: ended with code 2; the next change of a file starts it again")
    assert "invalid syntax" in developer.log.read_text()
    producer.http.post("/publish", json={"event_id": "3"})
    developer.save(" three")
    developer.until_handled("1 one", "2 two!", "3 three")
    (listener,) = psutil.Process(developer.process.pid).children()
    developer.process.terminate()
    assert developer.process.wait(30) == 0
    assert not listener.is_running()


def test_killed_it_leaves_no_listener_behind(shop: tuple[Developer, RunningProducer]) -> None:
    developer, _ = shop
    developer.until_said("listening")
    (listener,) = psutil.Process(developer.process.pid).children()
    developer.process.kill()
    _, left = psutil.wait_procs([listener], 30)
    assert not left
