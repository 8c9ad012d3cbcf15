"""Sets PostgreSQL back to a backup while listeners work, and checks that they notice."""

import asyncio
import contextlib
import re

import httpx

from unlost.ops.faults.drills.stage import Stage, StageError

WRITTEN_SINCE = 3.0
"""Seconds between the backup and the stop of PostgreSQL. In them, rows are stored and the group's cursor moves."""
ATTEMPTS, LOOK_SECONDS = 1_500, 0.02
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


async def until_noticed(stage: Stage) -> None:
    """Wait until each listener has reported that PostgreSQL was set back."""
    async with httpx.AsyncClient(timeout=2, trust_env=False) as client:
        for url in stage.listener_urls:
            await _noticed(client, url)


async def _noticed(client: httpx.AsyncClient, url: str) -> None:
    for _ in range(ATTEMPTS):
        with contextlib.suppress(httpx.TransportError):
            if NOTICED.search((await client.get(f"{url}/metrics")).text):
                return
        await asyncio.sleep(LOOK_SECONDS)
    raise StageError(f"{url} did not say that PostgreSQL was set back")
