"""A console that ends, in order or not, ends its replay, too. Replayed letters stay resolved, the others wait."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.end_to_end.console.conftest import OWN, Stage, until
from tests.end_to_end.console.handlers import NAME
from unlost.dlq.record.file import replay_guard
from unlost.dlq.record.sidecar import OPEN, states
from unlost.ops.system.layout import executable
from unlost.ops.system.ports import free_port

HOST = "127.0.0.1"


@pytest.fixture
def second(stage: Stage) -> Iterator[tuple[subprocess.Popen[bytes], httpx.Client]]:
    """A second console on the same system, with its own token, which may be killed."""
    layout, port = stage.system.layout, free_port()
    settings = {
        "PORT": str(port), "LISTENERS": ",".join(layout.listener_urls), "LETTERS": ",".join(map(str, stage.files)),
        "DATABASE_URL": stage.system.postgres.url, "REDIS_URL": stage.system.valkey.url, "HANDLER": NAME,
        "LOG_LEVEL": "error",
    }  # fmt: skip
    process = subprocess.Popen([executable("unlost"), "console"], env=os.environ | settings, stderr=subprocess.DEVNULL)
    with httpx.Client(base_url=f"http://{HOST}:{port}", trust_env=False, timeout=20) as client:
        until(lambda: is_up(client))
        yield process, client
    if process.poll() is None:
        process.kill()
        process.wait()


def is_up(client: httpx.Client) -> bool:
    try:
        return client.get("/health/ready").status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_replay_ends_with_its_console(
    stage: Stage, second: tuple[subprocess.Popen[bytes], httpx.Client], tmp_path: Path, how: signal.Signals
):
    process, client = second
    repaired = tmp_path / "repaired"
    ids = stage.buried("broken", 6, file=str(repaired))
    letters = [stage.letter_of(one) for one in ids]
    repaired.touch()
    body = {"ids": [one["letter_id"] for one in letters], "rate": 2}
    client.post("/api/replays", json=body, headers=OWN).raise_for_status()
    until(lambda: client.get("/api/replays").json()["replays"][0]["done"])
    process.send_signal(how)
    assert process.wait(30) == (0 if how == signal.SIGTERM else -signal.SIGKILL)
    guards = [replay_guard(path) for path in stage.files if path.exists()]
    for guard in guards:
        until(guard.take)
        guard.release()
    resolved = [one for one in letters if state_of(one) == "resolved"]
    assert 0 < len(resolved) < len(ids)
    rest = stage.ended(stage.post("/api/replays", ids=body["ids"])["replay_id"])
    assert (rest["state"], rest["resolved"]) == ("done", len(ids) - len(resolved))


def state_of(letter: dict) -> str:
    return states(Path(letter["file"])).get(letter["letter_id"], OPEN).status
