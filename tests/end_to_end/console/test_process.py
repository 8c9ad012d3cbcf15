"""A console that ends, in order or not, ends its replay, too. Replayed letters stay resolved, the others wait."""

import asyncio
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from tests.end_to_end.console.conftest import OWN, Stage, until
from tests.end_to_end.console.handlers import NAME
from unlost.ops.system.layout import executable
from unlost.ops.system.ports import free_port

HOST = "127.0.0.1"
HELD = "SELECT count(*) FROM unlost.letter_leases WHERE letter_id = ANY ($1::text[])"


@pytest.fixture
def second(stage: Stage) -> Iterator[tuple[subprocess.Popen[bytes], httpx.Client]]:
    """A second console on the same system, with its own token, which may be killed."""
    layout, port = stage.system.layout, free_port()
    settings = {
        "PORT": str(port), "LISTENERS": ",".join(layout.listener_urls), "LETTERS": ",".join(map(str, stage.files)),
        "DATABASE_URL": stage.system.postgres.url, "REDIS_URL": stage.system.valkey.url, "HANDLER": NAME,
        "LOG_LEVEL": "error", "TOKENS_FILE": str(layout.tokens.file), "UNLOST_TOKEN": layout.tokens.console,
    }  # fmt: skip
    process = subprocess.Popen([executable("unlost"), "console"], env=os.environ | settings, stderr=subprocess.DEVNULL)
    with httpx.Client(base_url=f"http://{HOST}:{port}", trust_env=False, timeout=20, headers=OWN) as client:
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
    body: dict[str, Any] = {"ids": [one["letter_id"] for one in letters], "rate": 2}
    client.post("/api/replays", json=body, headers=OWN).raise_for_status()
    until(lambda: client.get("/api/replays").json()["replays"][0]["done"])
    process.send_signal(how)
    assert process.wait(30) == (0 if how == signal.SIGTERM else -signal.SIGKILL)
    until(lambda: not leased(stage, body["ids"]), seconds=10)  # its own end, before any lease can lapse
    resolved = [one for one in ids if stage.letter_of(one)["state"]["status"] == "resolved"]
    assert 0 < len(resolved) < len(ids)
    rest = stage.ended(stage.post("/api/replays", ids=body["ids"])["replay_id"])
    assert (rest["state"], rest["resolved"]) == ("done", len(ids) - len(resolved))


def leased(stage: Stage, letter_ids: list[str]) -> int:
    """How many of the letters any replay holds."""

    async def count() -> int:
        connection = await asyncpg.connect(stage.system.database_url)
        try:
            found: int = await connection.fetchval(HELD, letter_ids)
        finally:
            await connection.close()
        return found

    return asyncio.run(count())
