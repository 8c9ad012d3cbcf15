"""PostgreSQL set back to a backup, by its data directory and by a dump, with and without running listeners."""

import asyncio
import json
import os
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import httpx
import pytest

from tests.end_to_end.test_law import audit, lines, publish, until_rows
from tests.support.system import running_system
from unlost.ops.system import copies
from unlost.ops.system.layout import executable
from unlost.ops.system.system import System

BEFORE, AFTER = 300, 500
HANDLER = "unlost.ops.faults.drills.handlers:record"
OPTIONS = {"dump": ("--no-unlogged-table-data",), "dump with claims": ("--encoding=UTF8",)}
"""Of pg_dump. The manual recommends the first."""


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


async def backed_up(system: System, backup: str) -> None:
    if backup == "data directory":
        await asyncio.to_thread(copies.copy_data, system.postgres)
    else:
        await asyncio.to_thread(copies.dump, system.postgres, *OPTIONS[backup])


async def restored(system: System, backup: str) -> None:
    if backup == "data directory":
        system.postgres.stop()
        copies.put_copy_in_place(system.postgres)
        system.postgres.start()
    else:
        await asyncio.to_thread(copies.restore_dump, system.postgres)


@pytest.mark.long
@pytest.mark.timeout(180)
@pytest.mark.parametrize("listeners", ["running", "down"])
@pytest.mark.parametrize("backup", [*OPTIONS, "data directory"])
async def test_rows_that_a_restored_postgres_lacks_are_stored_again(system: System, backup: str, listeners: str):
    postgres = system.postgres
    async with httpx.AsyncClient(base_url=system.layout.producer_url, timeout=20, trust_env=False) as client:
        await publish(client, lines(0, BEFORE))
        await until_saved(system, BEFORE)
        await backed_up(system, backup)
        await publish(client, lines(BEFORE, AFTER))
        await until_saved(system, BEFORE + AFTER)
        if listeners == "down":
            for child in system.listeners:
                await asyncio.to_thread(child.stop)
        await restored(system, backup)
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


async def until_a_key_is_missing(system: System) -> None:
    """Wait until each listener has met tables without their keys."""
    for url in system.layout.listener_urls:
        async with asyncio.timeout(30):
            while "a key is missing" not in json.dumps(await health(url)):  # noqa: ASYNC110  another process: no fact to wait for
                await asyncio.sleep(0.1)


@pytest.mark.long
@pytest.mark.timeout(180)
async def test_a_database_is_used_again_only_when_all_its_keys_are_there(system: System, tmp_path: Path):
    """Without --single-transaction, tables are there first, then their rows, and then their keys."""
    postgres, parts = system.postgres, (tmp_path / "rows.sql", tmp_path / "keys.sql")
    async with httpx.AsyncClient(base_url=system.layout.producer_url, timeout=20, trust_env=False) as client:
        await publish(client, lines(0, BEFORE))
        await until_saved(system, BEFORE)
        copies.dump(postgres, "--section=pre-data", "--section=data", *OPTIONS["dump"], file=parts[0])
        copies.dump(postgres, "--section=post-data", file=parts[1])
        await publish(client, lines(BEFORE, AFTER))
        await until_saved(system, BEFORE + AFTER)
        copies.empty_database(postgres)
        copies.load(postgres, parts[0])
        await publish(client, lines(BEFORE + AFTER, 10))
        await until_a_key_is_missing(system)
        copies.load(postgres, parts[1])
        await until_rows(postgres.url, BEFORE + AFTER + 10)
    account = await audit(system)
    assert (account["missing"], account["doubled"], account["letters"]) == (0, 0, 0)
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
            await backed_up(system, "dump")
            assert (await replay(system))["resolved"] == 5
            for child in system.listeners:
                await asyncio.to_thread(child.stop)
            await restored(system, "dump")
            between = await audit(system, code=1)
            assert (between["missing"], between["letters"], between["rows"]) == (5, 0, 100)
            for child in system.listeners:
                child.start()
            reopened = await until_open(system, 5)
            assert {one["state"]["detail"] for one in reopened} == {"PostgreSQL went back, and lost the row"}
            shown = await audit(system)
            assert (shown["missing"], shown["doubled"], shown["letters"], shown["rows"]) == (0, 0, 5, 100)
            await until_unresolved(client, system, 5)
            assert (await replay(system))["resolved"] == 5
        shown = await audit(system)
        assert (shown["missing"], shown["doubled"], shown["letters"], shown["rows"]) == (0, 0, 0, 105)


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
