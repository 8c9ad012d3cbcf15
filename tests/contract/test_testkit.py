"""``TestApp`` on a real PostgreSQL: what a route writes is committed with the row; a test sees both."""

from pathlib import Path

import asyncpg
import pytest

from tests.support.yardstick import Yardstick
from unlost import App, Reject, Transaction
from unlost.ops.testkit import prepared
from unlost.ops.testkit.postgres import running_postgres
from unlost.testing import TestApp

app = App()


@app.on("order")
async def reserve(payload: int, tx: Transaction) -> None:
    left = await tx.fetchval("update stock set count = count - $1 returning count", payload)
    if left < 0:
        raise Reject("sold out")


async def test_transactions_run_on_the_database_of_the_test(database_url: str) -> None:
    async with TestApp(app, postgres=database_url) as test:
        await test.connection.execute("create table stock (count int); insert into stock values (5)")
        assert [(await test.send(count, type="order")).outcome for count in (2, 9, 3)] == [
            "stored",
            "rejected",
            "stored",
        ]
        assert await test.connection.fetchval("select count from stock") == 0
        assert await test.connection.fetchval("select count(*) from unlost.events") == 2
        assert (await test.send(1, type="other", event_id="e")).outcome == "stored"
        assert (await test.send(1, type="other", event_id="e")).outcome == "duplicate"


async def test_a_server_of_its_own_is_gone_afterwards() -> None:
    with running_postgres() as server:
        connection = await asyncpg.connect(server.url)
        assert await connection.fetchval("show fsync") == "off"
        await connection.close()
        cluster = server.cluster
    assert not cluster.exists()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


async def identity_of(test: TestApp) -> int:
    identity: int = await test.connection.fetchval("select system_identifier from pg_control_system()")
    return identity


async def test_the_second_one_is_a_copy_and_ready_within_a_second(cache: Path, database_url: str) -> None:
    async with Yardstick(database_url) as since, TestApp(app, postgres=True) as first:
        alone = since.seconds
        made = await identity_of(first)
        assert (await first.send(1, type="other", event_id="e")).outcome == "stored"
    async with Yardstick(database_url) as since, TestApp(app, postgres=True) as second:
        assert since.seconds <= max(1, alone / 2), "a second, except where the machine is slow"
        assert await identity_of(second) == made, "initdb has not run again"
        assert (await second.send(1, type="other", event_id="e")).outcome == "stored", "its tables were empty"


async def test_a_copy_that_cannot_start_is_replaced(cache: Path) -> None:
    async with TestApp(app, postgres=True) as first:
        made = await identity_of(first)
    kept = prepared.prepared_cluster()
    assert kept is not None
    assert kept.stat().st_mode & 0o077 == 0
    (kept / "cluster" / "global" / "pg_control").write_bytes(b"")
    async with TestApp(app, postgres=True) as second:
        again = await identity_of(second)
        assert again != made
    async with TestApp(app, postgres=True) as third:
        assert await identity_of(third) == again


async def test_where_nothing_can_be_kept_each_is_made_anew(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (cache / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache / "file"))
    async with TestApp(app, postgres=True) as test:
        assert (await test.send(1, type="other")).outcome == "stored"


async def test_without_a_home_each_is_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> Path:
        raise RuntimeError

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", nowhere)
    assert prepared.prepared_cluster() is None
    async with TestApp(app, postgres=True) as test:
        assert (await test.send(1, type="other")).outcome == "stored"
