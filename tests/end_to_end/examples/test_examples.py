"""The examples under ``docs/examples`` work as they stand."""

import asyncio
import importlib
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import asyncpg
import httpx
import pytest
import structlog

from tests.end_to_end.producer.conftest import RunningProducer
from tests.support.listeners import rows_of
from tests.support.mongo import running_mongo
from unlost import App
from unlost.listener.core.errors import Misconfigured, Transient

EXAMPLES = Path(__file__).parents[3] / "docs" / "examples"
OPTIONS = ("-q", "-p", "no:cacheprovider", "-c", os.devnull)
ORDER: dict[str, Any] = {"sku": "a-17", "count": 2}


def run_tests_of(example: str, directory: Path, **environment: str) -> str:
    """Run the tests of an example as a user does: only with what the package brings."""
    run = [sys.executable, "-m", "pytest", *OPTIONS, "--rootdir", str(directory)]
    done = subprocess.run(
        [*run, str(EXAMPLES / example)],
        cwd=directory, env=os.environ | environment, capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("example", "passed"), [("orders", 5), ("accounts", 3), ("prices", 5)])
def test_the_tests_of_an_example_pass(example: str, passed: int, tmp_path: Path) -> None:
    assert f"{passed} passed" in run_tests_of(example, tmp_path)


@pytest.mark.timeout(120)
def test_the_tests_of_the_readings_pass_on_a_server_that_speaks_mongodbs_protocol(tmp_path: Path) -> None:
    with running_mongo(tmp_path / "mongo") as mongo:
        assert "3 passed" in run_tests_of("iot", tmp_path, MONGODB_URL=mongo.url)


@pytest.fixture
def producer(tmp_path: Path) -> Iterator[RunningProducer]:
    running = RunningProducer(tmp_path / "journal.sqlite")
    running.start()
    yield running
    running.end()


@pytest.fixture
def main(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(EXAMPLES / "fastapi")
    yield importlib.import_module("main")
    del sys.modules["main"]


@pytest.fixture
def settings(producer: RunningProducer, redis_url: str, database_url: str, tmp_path: Path) -> dict[str, str]:
    return {
        "ws_url": producer.stream, "redis_url": redis_url, "database_url": database_url, "port": "0",
        "dead_letter_file": str(tmp_path / "letters.jsonl"), "instance_id": "embedded", "startup_delay": "0.1",
    }  # fmt: skip


def taken_over() -> tuple[Any, ...]:
    """Things of the program that a listener is embedded in."""
    root = logging.getLogger()
    return (
        *(signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)),
        *(list(root.handlers), root.level, structlog.is_configured(), type(asyncio.get_event_loop_policy())),
        sys.excepthook,
    )


async def test_a_listener_inside_fastapi(
    main: ModuleType,
    settings: dict[str, str],
    producer: RunningProducer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name.upper(), value)
    connection = await asyncpg.connect(settings["database_url"])
    await connection.execute("create table stock (sku text, count int); insert into stock values ('a-17', 5)")
    main.api.state.producer_url = producer.url
    before = taken_over()
    caplog.set_level(logging.INFO, "unlost")
    async with main.api.router.lifespan_context(main.api), asyncio.timeout(40):
        assert taken_over() == before
        transport = httpx.ASGITransport(app=main.api)
        async with httpx.AsyncClient(transport=transport, base_url="http://main") as client:
            assert [(await client.post("/orders/1", params=ORDER)).json()["status"] for _ in range(2)] == [
                "accepted",
                "duplicate",
            ]
            while not (rows := await rows_of(settings["database_url"])):  # noqa: ASYNC110  as a user would see it
                await asyncio.sleep(0.05)
            while (await client.get("/ready")).status_code != 200:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        listener = main.api.state.listener
        own = await asyncio.to_thread(httpx.get, f"http://127.0.0.1:{listener.port}/health/live", trust_env=False)
        assert own.json()["status"] == "live"
    assert taken_over() == before
    assert not listener.is_ready
    assert [(row["event_id"], row["handler"]) for row in rows] == [("1", "main:app")]
    assert await connection.fetchval("select count from stock") == 3
    await connection.close()
    lines = [record.getMessage() for record in caplog.records if record.name == "unlost"]
    assert any(line.startswith("listening address='http://127.0.0.1:") for line in lines)
    assert any(line.startswith("drained ") for line in lines)


async def test_entering_running_raises_the_error_that_ends_the_start(settings: dict[str, str]) -> None:
    app = App()
    app.otherwise(print)
    with pytest.raises(Misconfigured, match="in no module's namespace"):
        async with app.running(settings):
            pass
    with pytest.raises(Misconfigured, match="--lease"):
        async with app.running({**settings, "handler": "shop:app", "lease": "0"}):
            pass
    away = {
        **settings,
        "database_url": "postgresql://127.0.0.1:9/none",
        "database_attempts": "1",
        "handler": "shop:app",
    }
    with pytest.raises(Transient, match="PostgreSQL"):
        async with app.running(away):
            pass


async def test_leaving_drains_also_after_an_error_of_the_program(settings: dict[str, str]) -> None:
    app = App()
    app.otherwise(print)
    with pytest.raises(KeyError, match="of the program"):
        async with app.running({**settings, "handler": "shop:app"}) as listener:
            raise KeyError("of the program")
    assert listener.health().facts["phase"] == "stopped"
