"""Shared by the tests of faults: frames, letters, the law, and listeners as processes."""

import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.listeners import QUICK
from unlost.dlq.record.file import Located, read_letters
from unlost.dlq.record.letter_state import OPEN
from unlost.dlq.record.sidecar import states
from unlost.ops.system.child import Child
from unlost.ops.system.layout import executable
from unlost.ops.system.ports import free_port


@pytest.fixture
def servers(redis_url: str, database_url: str, tmp_path: Path) -> dict:
    return {"redis_url": redis_url, "database_url": database_url, "directory": tmp_path}


def frame(event_id: str, payload: object = 1, **fields: object) -> str:
    return json.dumps({"event_id": event_id, "payload": payload, **fields})


def frames(name: str, count: int) -> list[str]:
    return [frame(f"{name}{i}") for i in range(count)]


def letters(directory: Path, name: str = "a") -> list:
    path = directory / f"{name}.jsonl"
    read = list(read_letters(path)) if path.exists() else []
    assert all(isinstance(one, Located) for one in read), "a damaged line"
    return [one.letter for one in read]


def open_letters(directory: Path, name: str = "a") -> list:
    """Letters that wait: no replay, and no other letter of the same event, has resolved them."""
    known = states(directory / f"{name}.jsonl")
    return [one for one in letters(directory, name) if known.get(one.letter_id, OPEN).waits]


def assert_law(ids: set[str], rows: list[dict], buried: list) -> None:
    """Each event is exactly one row or one letter."""
    ends = Counter([row["event_id"] for row in rows] + [letter.event_id for letter in buried])
    assert {id_: count for id_, count in ends.items() if count != 1} == {}
    assert set(ends) == ids


class ListenerProcess:
    """A real listener, started by its command."""

    def __init__(self, directory: Path, name: str, **settings: str) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        self.runs = directory / "runs"
        self.gate = directory / "gate"
        given = QUICK | {
            "instance_id": name,
            "port": self.url.rpartition(":")[2],
            "dead_letter_file": str(directory / f"{name}.jsonl"),
            **settings,
        }
        log = directory / f"{name}.log"
        environment = {name.upper(): value for name, value in given.items()}
        environment |= {"RUNS_FILE": str(self.runs), "GATE_FILE": str(self.gate)}
        self.child = Child(
            name, [str(executable("unlost")), "listener"], log=log, environment={**os.environ, **environment}
        )

    def health(self) -> dict:
        try:
            return httpx.get(f"{self.url}/health", trust_env=False, timeout=5).json()
        except httpx.TransportError:
            return {}

    def is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health/ready", trust_env=False, timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    def start(self) -> None:
        self.child.start()
        self.child.wait_until(self.is_ready, 30)

    def runs_of(self, event_id: str) -> int:
        return self.runs.read_text().splitlines().count(event_id) if self.runs.exists() else 0


@pytest.fixture
def processes() -> Iterator[list[ListenerProcess]]:
    """Listener processes added here are stopped afterwards."""
    started: list[ListenerProcess] = []
    yield started
    for one in started:
        one.child.kill()
