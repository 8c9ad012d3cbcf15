"""A whole system with CODEC: no content in plain text on any disk, and a person who is erased stays unreadable."""

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner, Result

from tests.support.system import running_system
from unlost.dlq.commands.cli import main as dlq
from unlost.ops.cli import main
from unlost.ops.system.system import System

NAME = "Jane-Q-Doe-8133"
"""Stands in every event, and must stand nowhere on the disk."""


class Running:
    def __init__(self, system: System, keys: Path) -> None:
        self.system = system
        self.keys = keys
        self.env = {
            "DATABASE_URL": system.database_url, "REDIS_URL": system.redis_url, "HANDLER": HANDLER,
            "PRODUCER_URL": system.layout.producer_url, "LISTENERS": system.layout.listener_urls[0],
            "CODEC": CODEC, "CODEC_KEYS": str(keys), "CODEC_SUBJECT": "payload.customer",
        }  # fmt: skip

    def publish(self, event_id: str, customer: int, *, kind: str = "good") -> None:
        payload = {"customer": customer, "name": NAME}
        event = {"event_id": event_id, "type": kind, "payload": payload, "of": NAME}
        httpx.post(f"{self.system.layout.producer_url}/publish", json=event).raise_for_status()

    def run(self, group: object, *words: str, code: int = 0) -> Result:
        done = CliRunner().invoke(group, words, env=self.env)  # type: ignore[arg-type]
        assert done.exit_code == code, done.output
        return done

    def letters(self, *flags: str) -> list[dict]:
        return json.loads(self.run(dlq, "list", "--json", *flags).stdout)

    def files_with(self, text: str) -> list[str]:
        """The files of the system that hold a text, once PostgreSQL has written everything."""
        found = []
        for directory, _, names in os.walk(self.system.layout.data):
            for name in names:
                path = Path(directory, name)
                if path.is_file() and text.encode() in path.read_bytes():
                    found.append(str(path))
        return found


CODEC = "unlost.encryption:AesGcm"
HANDLER = "tests.end_to_end.encrypted_handler:handle"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    keys = tmp_path_factory.mktemp("keys") / "keys.json"
    keys.parent.chmod(0o755)
    created = CliRunner().invoke(main, ["keys", "create", "--codec-keys", str(keys)])
    assert created.exit_code == 0, created.output
    settings: dict[str, Any] = {
        "CODEC": CODEC,
        "CODEC_KEYS": str(keys),
        "CODEC_SUBJECT": "payload.customer",
        "HANDLER": HANDLER,
    }
    with running_system(1, **settings, HANDLE_DELAY="0") as system:
        yield Running(system, keys)


def until(holds: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.1)


def rows(running: Running) -> list[str]:
    page = httpx.get(f"{running.system.layout.listener_urls[0]}/api/events").json()
    return sorted(one["event_id"] for one in page["events"])


def test_content_is_encrypted_everywhere_and_erased_for_good(running: Running) -> None:
    running.publish("a", 17)
    running.publish("b", 17, kind="bad")
    running.publish("c", 18)
    running.publish("d", 18, kind="bad")
    until(lambda: rows(running) == ["a", "c"])
    until(lambda: len(running.letters()) == 2)
    running.system.postgres.sql("checkpoint")

    assert running.files_with(NAME) == []
    shown = httpx.get(f"{running.system.layout.listener_urls[0]}/api/events").json()["events"]
    assert [one["payload"] for one in shown] == ["***", "***"]
    assert NAME not in running.run(dlq, "show", "b").output
    assert f"no good for {NAME}" in running.run(dlq, "show", "b", "--unmasked").output

    known = json.loads(running.run(main, "event", "b").stdout)
    assert known["letters"][0]["reason"] == "rejected"
    assert NAME not in json.dumps(known)

    running.run(main, "keys", "rotate", "--codec-keys", str(running.keys))
    time.sleep(1.2)  # servers look at the file twice a second
    running.publish("e", 18)
    until(lambda: rows(running) == ["a", "c", "e"])

    letters = running.system.layout.letter_files[0]
    where = ["--journal", str(running.system.layout.journal), "--letters", str(letters)]
    dry = json.loads(running.run(main, "erase", "17", *where).stdout)
    assert "nothing was destroyed" in dry["receipt"]
    receipt = json.loads(running.run(main, "erase", "17", *where, "--why", "asked for it", "--yes").stdout)
    counts = {(one["kind"], one["where"]): one["count"] for one in receipt["remains"]}
    assert counts["rows", "group unlost in PostgreSQL"] == 1
    assert counts["letters", "group unlost in PostgreSQL"] == 1
    assert counts["lines", str(letters)] == 1
    assert counts["entries of the journal", str(running.system.layout.journal)] == 2
    assert receipt["not_looked_at"] == []
    assert len(receipt["place"]) == 20
    trail = running.run(main, "trail", "list").output
    assert f"subject erased: place {receipt['place']}" in trail
    assert "asked for it" in trail

    assert "its subject was erased" in running.run(dlq, "show", "b", "--unmasked").output
    reported = running.run(dlq, "replay", "--id", "b", code=1).output
    assert "its subject was erased" in reported
    assert [(one["event_id"], one["state"]["status"]) for one in running.letters("--id", "b")] == [("b", "failed")]
    assert [one["event_id"] for one in running.letters("--state", "failed")] == ["b"]

    time.sleep(1.2)
    running.publish("f", 17)
    until(lambda: any(one["event_id"] == "f" for one in running.letters()))
    assert rows(running) == ["a", "c", "e"]
    assert running.files_with(NAME) == []
    assert NAME in running.run(dlq, "show", "d", "--unmasked").output
