"""PostgreSQL set back to a backup, by its data directory and by a dump, with and without running listeners."""

import asyncio
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import httpx
import pytest

from tests.end_to_end.test_law import audit, lines, publish, until_rows
from tests.support.system import running_system
from unlost.ops.system.layout import executable
from unlost.ops.system.system import System

BEFORE, AFTER = 300, 500
HANDLER = "unlost.ops.faults.drills.handlers:record"
TABLES = ("events", "cursors", "buried", "listeners", "claims", "claims_place", "store", "losses")


@pytest.fixture
def system() -> Iterator[System]:
    with running_system(listeners=2, lease="3", handle_delay="0.1", insert_delay="0.1") as running:
        yield running


async def health(url: str) -> dict:
    async with httpx.AsyncClient(trust_env=False, timeout=5) as client:
        return (await client.get(f"{url}/health")).json()


async def changes(system: System) -> set[str]:
    return {one["what"] for url in system.layout.listener_urls for one in (await health(url))["changes"]}


async def until_saved(system: System, count: int, rows: int | None = None) -> None:
    """Wait for the rows, and for a cursor behind them. Then only resetting the cursor makes them be read again."""
    await until_rows(system.postgres.url, count if rows is None else rows)
    connection = await asyncpg.connect(system.postgres.url)
    async with asyncio.timeout(30):
        while not str(await connection.fetchval("select cursor from unlost.cursors")).endswith(f".{count}"):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    await asyncio.sleep(1.0)  # after this time the store's version has certainly grown
    await connection.close()


async def copy_tables(url: str, source: str, target: str) -> None:
    """Copy as a dump and its restoration do, with the restoration in one transaction."""
    connection = await asyncpg.connect(url)
    async with connection.transaction():
        for table in TABLES:
            if target == "backup":
                await connection.execute(f"create table backup.{table} as table {source}.{table}")
            else:
                columns = await connection.fetchval(
                    "select string_agg(quote_ident(column_name), ', ') from information_schema.columns "
                    "where table_schema = 'backup' and table_name = $1", table,
                )  # fmt: skip
                await connection.execute(f"delete from {target}.{table}")
                await connection.execute(
                    f"insert into {target}.{table} ({columns}) overriding system value "
                    f"select {columns} from {source}.{table}"
                )
    await connection.close()


@pytest.mark.long
@pytest.mark.timeout(180)
@pytest.mark.parametrize("listeners", ["running", "down"])
@pytest.mark.parametrize("backup", ["dump", "data directory"])
async def test_what_a_restored_postgres_lacks_is_stored_again(system: System, backup: str, listeners: str):
    postgres, copy = system.postgres, system.layout.data / "postgres" / "backup"
    cluster = copy.with_name("cluster")
    async with httpx.AsyncClient(base_url=system.layout.producer_url, timeout=20, trust_env=False) as client:
        await publish(client, lines(0, BEFORE))
        await until_saved(system, BEFORE)
        if backup == "dump":
            postgres.sql("create schema backup", "unlost")
            await copy_tables(postgres.url, "unlost", "backup")
        else:
            postgres.stop()
            shutil.copytree(cluster, copy, symlinks=True)
            postgres.own(copy)
            postgres.start()
        await publish(client, lines(BEFORE, AFTER))
        await until_saved(system, BEFORE + AFTER)
        if listeners == "down":
            for child in system.listeners:
                await asyncio.to_thread(child.stop)
        if backup == "dump":
            await copy_tables(postgres.url, "backup", "unlost")
        else:
            postgres.stop()
            shutil.rmtree(cluster)
            shutil.copytree(copy, cluster, symlinks=True)
            for path in (cluster, *cluster.rglob("*")):
                postgres.own(path)
            postgres.start()
        if listeners == "down":
            for child in system.listeners:
                child.start()
        await until_rows(postgres.url, BEFORE + AFTER)
        await publish(client, lines(BEFORE + AFTER, 10))
        await until_rows(postgres.url, BEFORE + AFTER + 10)
    account = await audit(system)
    assert (account["missing"], account["doubled"]) == (0, 0)
    if listeners == "running":
        assert "store_went_back" in await changes(system)


async def dlq(system: System, *arguments: str) -> dict | list:
    """The output of a command on the letters of both listeners."""
    process = await asyncio.create_subprocess_exec(
        executable("dlq"), *arguments, *map(str, system.layout.letter_files), "--json",
        stdout=asyncio.subprocess.PIPE, env={**os.environ, "DRILL_HEALED": "1"},
    )  # fmt: skip
    out, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, out.decode()
    return json.loads(out)


async def replay(system: System) -> dict:
    """A replay whose handler succeeds."""
    flags = ("--redis-url", system.valkey.url, "--database-url", system.postgres.url, "--handler", HANDLER)
    report = await dlq(system, "replay", *flags, "--lease", "3", "--handle-delay", "0.1", "--insert-delay", "0.1")
    assert isinstance(report, dict)
    return report["report"]


async def until_open(system: System, count: int) -> list:
    async with asyncio.timeout(30):
        while len(found := await dlq(system, "list", "--state", "open")) != count:  # noqa: ASYNC110
            await asyncio.sleep(0.2)
    return list(found)


@pytest.mark.long
@pytest.mark.timeout(180)
async def test_a_letter_whose_row_the_restore_took_waits_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """It was replayed after the backup, and its event is before the backup's cursor, so nobody reads it again."""
    monkeypatch.setenv("DRILL_RUNS", str(tmp_path / "runs"))
    failing = b"".join(b'{"event_id": "bad-%d", "payload": {"drill": "fail"}}\n' % n for n in range(5))
    with running_system(listeners=2, lease="3", handle_delay="0.1", insert_delay="0.1", handler=HANDLER) as system:
        postgres = system.postgres
        async with httpx.AsyncClient(base_url=system.layout.producer_url, timeout=20, trust_env=False) as client:
            await publish(client, failing)
            await publish(client, lines(0, 100))
            await until_rows(postgres.url, 100)
            await until_open(system, 5)
            await until_saved(system, 105, rows=100)
            postgres.sql("create schema backup", "unlost")
            await copy_tables(postgres.url, "unlost", "backup")
            assert (await replay(system))["resolved"] == 5
            for child in system.listeners:
                await asyncio.to_thread(child.stop)
            await copy_tables(postgres.url, "backup", "unlost")
            between = await audit(system, code=1)
            assert (between["missing"], between["letters"], between["rows"]) == (5, 0, 100)
            for child in system.listeners:
                child.start()
            reopened = await until_open(system, 5)
            assert {one["state"]["detail"] for one in reopened} == {"PostgreSQL went back, and lost the row"}
            told = await audit(system)
            assert (told["missing"], told["doubled"], told["letters"], told["rows"]) == (0, 0, 5, 100)
            await until_unresolved(client, system, 5)
            assert (await replay(system))["resolved"] == 5
        told = await audit(system)
        assert (told["missing"], told["doubled"], told["letters"], told["rows"]) == (0, 0, 0, 105)


async def until_unresolved(client: httpx.AsyncClient, system: System, count: int) -> None:
    """Wait for the gauge of letters that a replay would take. It is updated every five seconds."""
    async with asyncio.timeout(20):
        while True:
            pages = [(await client.get(f"{url}/metrics")).text for url in system.layout.listener_urls]
            lines = [line for page in pages for line in page.splitlines()]
            sums = [float(line.split()[-1]) for line in lines if line.startswith("unlost_dead_letters_unresolved{")]
            if sum(sums) == count:
                return
            await asyncio.sleep(0.5)
