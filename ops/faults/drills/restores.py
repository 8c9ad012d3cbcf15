"""Sets PostgreSQL back to a backup, by its data directory or by a dump, and checks that running listeners notice."""

import asyncio
import contextlib
import re

import httpx

from unlost.ops.faults.drills.stage import Stage, StageError

WRITTEN_SINCE = 3.0
"""Seconds between the backup and the stop of PostgreSQL. In them, rows are stored and the group's cursor moves."""
ATTEMPTS, LOOK_SECONDS = 1_500, 0.02
FLOWS = 2.0
"""Seconds in which events that were lost are read again, before the same dump is restored once more."""
NOTICED = re.compile(r"^unlost_store_changes_total\{[^}]*\} [1-9]", re.MULTILINE)


async def set_postgres_back(stage: Stage) -> None:
    """Drop everything stored since the backup. Raises ``StageError`` if that was nothing."""
    await stage.back_up_postgres()
    await asyncio.sleep(WRITTEN_SINCE)
    before = await stage.count("")
    await stage.stop("postgres")
    await stage.restore_postgres()
    await stage.start("postgres")
    after = await stage.count("")
    if after >= before:
        raise StageError(f"the backup has {after} rows of {before}: nothing was set back; publish faster (--rate)")


async def restore_dump_beside_listeners(stage: Stage) -> None:
    """Restore a dump into an empty database while listeners work, and wait until each has noticed."""
    await stage.dump_postgres()
    await asyncio.sleep(WRITTEN_SINCE)
    await _restore_dump(stage)
    await until_noticed(stage)


async def stop_listeners_and_restore_dump(stage: Stage) -> None:
    """Restore the same dump again, in the other order: no listener runs."""
    await asyncio.sleep(FLOWS)
    for listener in stage.listeners:
        await stage.stop(listener)
    async with httpx.AsyncClient(timeout=2, trust_env=False, headers=stage.headers) as client:
        for url in stage.listener_urls:
            await _gone(client, url)
    await _restore_dump(stage)


async def _restore_dump(stage: Stage) -> None:
    before = await stage.count("")
    await stage.restore_dump()
    after = await stage.count("")
    if after >= before:
        raise StageError(f"the dump has {after} rows of {before}: nothing was set back; publish faster (--rate)")


async def _gone(client: httpx.AsyncClient, url: str) -> None:
    for _ in range(ATTEMPTS):
        try:
            await client.get(f"{url}/health/live")
        except httpx.TransportError:
            return
        await asyncio.sleep(LOOK_SECONDS)
    raise StageError(f"{url} still answers, though it was stopped")


async def until_noticed(stage: Stage) -> None:
    """Wait until each listener has reported that PostgreSQL was set back."""
    async with httpx.AsyncClient(timeout=2, trust_env=False, headers=stage.headers) as client:
        for url in stage.listener_urls:
            await _noticed(client, url)


async def _noticed(client: httpx.AsyncClient, url: str) -> None:
    for _ in range(ATTEMPTS):
        with contextlib.suppress(httpx.TransportError):
            if NOTICED.search((await client.get(f"{url}/metrics")).text):
                return
        await asyncio.sleep(LOOK_SECONDS)
    raise StageError(f"{url} did not say that PostgreSQL was set back")
