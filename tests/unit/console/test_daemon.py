"""The console's own tasks: one that fails ends the console, and is no secret."""

from typing import Any

import pytest
from structlog.testing import capture_logs

from unlost.ops.console import daemon as daemon_module
from unlost.ops.console.daemon import ConsoleDaemon
from unlost.ops.console.settings import ConsoleSettings
from unlost.ops.kit.access.gate import Gate
from unlost.ops.watch.query import Watch


@pytest.fixture
def daemon(tmp_path) -> ConsoleDaemon:
    settings = {"port": "0", "database_url": f"postgresql:///d?host={tmp_path}", "listeners": "", "letters": ""}
    return ConsoleDaemon(ConsoleSettings.load(settings))


async def test_a_task_that_fails_ends_the_console(daemon: ConsoleDaemon, monkeypatch: pytest.MonkeyPatch):
    async def broken(_gate: Gate) -> None:
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr(Gate, "watch", broken)
    with pytest.RaisesGroup(pytest.RaisesExc(RuntimeError, match="a mistake of ours")):
        await daemon.run()


async def test_a_look_that_fails_is_logged_and_the_next_one_follows(
    daemon: ConsoleDaemon, monkeypatch: pytest.MonkeyPatch
):
    looks = 0

    async def look(_watch: Watch) -> Any:
        nonlocal looks
        looks += 1
        if looks == 2:
            daemon.stop()
        raise ValueError("an answer that nobody expected")

    monkeypatch.setattr(daemon_module, "WATCH_SECONDS", 0)
    monkeypatch.setattr(Watch, "look", look)
    with capture_logs() as lines:
        await daemon.run()
    assert looks >= 2
    assert "watch_failed" in [line["event"] for line in lines]
