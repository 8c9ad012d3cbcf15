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
from unlost.ops.kit.access.identity import Right
from unlost.ops.kit.access.table import TokenEntry, digest_of, new_token
from unlost.ops.kit.access.token_file import load_entries, save_entries
from unlost.ops.system.system import System

TOKEN = new_token()
CARD = "4111-2222-3333"
BEARER = {"authorization": f"Bearer {TOKEN}"}
OWN = {"x-unlost-console": "1", **BEARER}
ENDED = ("done", "cancelled", "failed")
_numbers = itertools.count(1)
HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The first test of each worker starts the system too: on a busy machine that alone takes 30 s."""
    for item in items:
        if HERE in item.path.parents and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(150))


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

    def token(self, name: str, *rights: Right) -> str:
        """A new token, once all servers know it. Asking for health is no guess, which would lock this address out."""
        tokens = self.system.layout.tokens
        assert tokens is not None
        made = new_token()
        save_entries(tokens.file, [*load_entries(tokens.file), TokenEntry(name, rights, digest_of(made))])
        bearer = {"authorization": f"Bearer {made}"}
        for url in (self.url, *self.system.layout.listener_urls):
            until(lambda at=url: "instance" in self.client.get(f"{at}/health", headers=bearer).json())  # type: ignore[misc]
        return made

    def publish(self, kind: str, count: int = 1, **payload: Any) -> list[str]:
        """Publish events of a type. Returns their ids."""
        ids = [f"{kind}-{next(_numbers)}" for _ in range(count)]
        for event_id in ids:
            event = {"event_id": event_id, "type": kind, "payload": {"card": CARD, **payload}}
            self.client.post("/api/publish", json=event, headers=OWN).raise_for_status()
        return ids

    def buried(self, kind: str, count: int = 1, **payload: Any) -> list[str]:
        """Publish events that fail, and wait for their letters. Returns their ids.

        Others succeed meanwhile, so that the route flows at one listener at least. There the events are buried.
        """
        ids = []
        for _ in range(count):
            ids += self.publish(kind, **payload)
            self.publish("order")
        until(lambda: all(map(self._are_listed, ids)) or not self.publish("order"))
        return ids

    def _are_listed(self, event_id: str) -> bool:
        """Whether the event has letters, and each is in the fleet's list too, where a replay takes it."""
        letters = self.letters_of(event_id)
        return bool(letters) and not any(one.get("unshipped") for one in letters)

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
    """The answer of ``look``, as soon as it is not empty. Polled, because another process reports no facts."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)
    return found


@pytest.fixture(scope="package")  # to the end of the session, it would take processor time for nothing
def stage() -> Iterator[Stage]:
    settings = {
        "HANDLER": NAME,
        "HANDLE_DELAY": "0.02",
        "HANDLE_ATTEMPTS": "2",
        "REDACT": "card",
        "ORDER_BY": "payload.account",
    }
    with (
        running_system(listeners=2, console=True, token=TOKEN, **settings) as system,
        httpx.Client(base_url=str(system.layout.console_url), timeout=20, trust_env=False, headers=BEARER) as client,
    ):
        yield Stage(system, client)
