"""Listeners that are started by hand, with environment variables alone."""

import asyncio
import json
import os
import subprocess
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from pymongo import MongoClient

from tests.end_to_end.producer.conftest import RunningProducer
from tests.support.feeds.feed import running
from tests.support.feeds.protocols import SocketIO
from tests.support.listeners import rows_of
from tests.support.mongo import Mongo, running_mongo
from unlost.listener.core.errors import Misconfigured
from unlost.mongodb import app
from unlost.ops.system.layout import executable
from unlost.ops.system.ports import free_port
from unlost.testing import TestApp


class ByHand:
    """One listener process."""

    def __init__(self, directory: Path, environment: Mapping[str, str]) -> None:
        directory.mkdir(exist_ok=True)
        self.url = f"http://127.0.0.1:{environment['PORT']}"
        self.log = directory / "log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [executable("unlost"), "listener"], cwd=directory, env={**os.environ, **environment}, stderr=log
            )

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.url + path, trust_env=False, timeout=20)

    async def until_ready(self) -> None:
        async with asyncio.timeout(30):
            while True:
                assert self.process.poll() is None, self.log.read_text()
                try:
                    if (await asyncio.to_thread(self.get, "/health/ready")).status_code == 200:
                        return
                except httpx.TransportError:
                    pass
                await asyncio.sleep(0.05)

    def end(self, *, kill: bool = False) -> None:
        if self.process.poll() is None:
            self.process.kill() if kill else self.process.terminate()
        self.process.wait(30)


@contextmanager
def ending(*listeners: ByHand) -> Iterator[None]:
    try:
        yield
    finally:
        for one in listeners:
            one.end()


async def until_rows(database_url: str, count: int, *, seconds: float = 30) -> list[dict[str, Any]]:
    async with asyncio.timeout(seconds):
        while len(rows := await rows_of(database_url)) < count:  # noqa: ASYNC110  as a user would see it
            await asyncio.sleep(0.05)
    return rows


@pytest.fixture
async def broadcaster() -> AsyncIterator[SocketIO]:
    feed = SocketIO()
    async with running(feed):
        yield feed


@pytest.fixture
def mongo(tmp_path: Path) -> Iterator[Mongo]:
    with running_mongo(tmp_path / "mongo") as server:
        yield server


def documents(mongo: Mongo) -> dict[str, dict[str, Any]]:
    """All documents, by id, which is the first field of each."""
    with MongoClient[dict[str, Any]](mongo.url) as client:
        found = list(client.get_default_database()["events"].find())
    documents = {next(iter(one.values())): one for one in found}
    assert len(documents) == len(found)
    return documents


async def test_an_address_of_each_server_is_all_that_a_listener_needs(
    redis_url: str, database_url: str, tmp_path: Path
) -> None:
    producer = RunningProducer(tmp_path / "journal.sqlite")
    producer.start()
    environment = {
        "INSTANCE_ID": "listener-a", "PORT": str(free_port()), "WS_URL": producer.stream, "REDIS_URL": redis_url,
        "DATABASE_URL": database_url.replace("postgresql://", "postgres://"), "LOG_LEVEL": "debug",
    }  # fmt: skip
    listener = ByHand(tmp_path / "a", environment)
    with ending(listener):
        await listener.until_ready()
        producer.http.post("/publish", json={"event_id": "evt_123", "payload": {"message": "hello"}})
        (row,) = await until_rows(database_url, 1)
        (shown,) = listener.get("/api/events").json()["events"]
    producer.end()
    lines = [json.loads(line) for line in listener.log.read_text().splitlines()]
    assert [line["instance"] for line in lines if line["event"] == "event_stored"] == ["listener-a"]
    assert (row["event_id"], row["instance_id"]) == ("evt_123", "listener-a")
    assert (shown["event_id"], shown["payload"]) == ("evt_123", {"message": "hello"})


@pytest.mark.timeout(120)
async def test_three_listeners_keep_rows_in_postgresql_and_documents_in_mongodb(
    broadcaster: SocketIO, mongo: Mongo, redis_url: str, database_url: str, tmp_path: Path
) -> None:
    """All get every event of a Socket.IO broadcaster. One is killed and MongoDB restarted meanwhile."""

    def by_hand(number: int) -> ByHand:
        name = f"listener-{number}"
        environment = {
            "INSTANCE_ID": name, "PORT": str(free_port()), "SOURCE": "socketio", **broadcaster.environment(),
            "REDIS_URL": redis_url, "DATABASE_URL": database_url, "LEASE": "2", "HANDLE_DELAY": "0.2",
            "HANDLER": "unlost.mongodb:app", "MONGODB_URL": mongo.url, "HEAL_FIRST": "1",
        }  # fmt: skip
        return ByHand(tmp_path / name, environment)

    listeners = [by_hand(number) for number in (1, 2, 3)]
    with ending(*listeners):
        for one in listeners:
            await one.until_ready()
        await broadcaster.until(3, 3)
        await broadcaster.publish(40)
        await until_rows(database_url, 20)
        listeners[0].end(kill=True)
        await asyncio.to_thread(mongo.stop)
        await broadcaster.publish(40)
        await asyncio.to_thread(mongo.start)
        # An attempt may wait 10 s for the server that was stopped, and after three of them a letter has to heal.
        rows = await until_rows(database_url, 80, seconds=80)
    assert [row["event_id"] for row in rows] == broadcaster.ids
    stored = await asyncio.to_thread(documents, mongo)
    assert sorted(stored) == broadcaster.ids
    assert (stored["s0"]["type"], stored["s0"]["payload"]) == ("event", {"event_id": "s0", "n": 0})


async def test_an_event_that_mongodb_cannot_store_is_a_dead_letter_at_once(
    mongo: Mongo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MONGODB_URL", mongo.url)
    async with TestApp(app) as kit:
        refused = await kit.send({"n": 2**70}, event_id="large")
        taken = await kit.send({"n": 2**60, "a.b": {"$x": None}}, event_id="small")
    assert (refused.outcome, refused.attempts) == ("rejected", 1)
    assert "MongoDB cannot store" in refused.error
    assert taken.outcome == "stored"
    assert [one["payload"] for one in documents(mongo).values()] == [{"n": 2**60, "a.b": {"$x": None}}]


@pytest.mark.parametrize("url", ["mongodb://", "http://127.0.0.1/x", "mongodb://a:99999/b"])
async def test_an_address_that_is_none_ends_the_start(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONGODB_URL", url)
    with pytest.raises(Misconfigured, match="MONGODB_URL"):
        async with TestApp(app):
            pass
