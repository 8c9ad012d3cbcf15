"""One system with a console for all its tests, and a way to create letters in it."""

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.end_to_end.console.handlers import NAME
from tests.support.system import running_system
from unlost.ops.system.system import System

TOKEN = "open sesame"
CARD = "4111-2222-3333"
OWN = {"x-unlost-console": "1", "authorization": f"Bearer {TOKEN}"}
ENDED = ("done", "cancelled", "failed")
_numbers = itertools.count(1)


@dataclass
class Stage:
    """The system, and calls to its console."""

    system: System
    client: httpx.Client

    @property
    def url(self) -> str:
        return str(self.client.base_url).rstrip("/")

    @property
    def files(self) -> tuple[Path, ...]:
        return self.system.layout.letter_files

    def get(self, path: str, **params: Any) -> Any:
        response = self.client.get(path, params=params)
        response.raise_for_status()
        return response.json()

    def post(self, path: str, **body: Any) -> Any:
        response = self.client.post(path, json=body, headers=OWN)
        response.raise_for_status()
        return response.json()

    def publish(self, kind: str, count: int = 1, **payload: Any) -> list[str]:
        """Publish events of a type. Returns their ids."""
        ids = [f"{kind}-{next(_numbers)}" for _ in range(count)]
        for event_id in ids:
            event = {"event_id": event_id, "type": kind, "payload": {"card": CARD, **payload}}
            self.client.post("/api/publish", json=event, headers=OWN).raise_for_status()
        return ids

    def buried(self, kind: str, count: int = 1, **payload: Any) -> list[str]:
        """Publish events that fail, and wait for their letters. Returns their ids."""
        ids = self.publish(kind, count, **payload)
        until(lambda: all(self.letters_of(one) for one in ids))
        return ids

    def letters_of(self, event_id: str) -> list[dict[str, Any]]:
        return [one for one in self.get("/api/letters")["letters"] if one["event_id"] == event_id]

    def letter_of(self, event_id: str) -> dict[str, Any]:
        (letter,) = self.letters_of(event_id)
        return letter

    def ended(self, replay_id: str) -> dict[str, Any]:
        """The replay, once it has ended."""
        return until(lambda: next((o for o in self.replays(replay_id) if o["state"] in ENDED), None))

    def replays(self, replay_id: str) -> list[dict[str, Any]]:
        return [one for one in self.get("/api/replays")["replays"] if one["replay_id"] == replay_id]


def until(look: Callable[[], Any], seconds: float = 30) -> Any:
    """What ``look`` returns, as soon as it is not empty. Polled, because another process reports no facts."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)
    return found


@pytest.fixture(scope="session")
def stage() -> Iterator[Stage]:
    settings = {
        "HANDLER": NAME,
        "HANDLE_DELAY": "0.02",
        "HANDLE_ATTEMPTS": "2",
        "CONSOLE_TOKEN": TOKEN,
        "REDACT": "card",
    }
    with (
        running_system(listeners=2, console=True, **settings) as system,
        httpx.Client(base_url=str(system.layout.console_url), timeout=20, trust_env=False) as client,
    ):
        yield Stage(system, client)
