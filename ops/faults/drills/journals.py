"""Acts of drills on the producer's journal on this machine."""

import asyncio
import contextlib
import os
import re
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import httpx

from unlost.ops.faults.drills.stage import Stage, StageError
from unlost.ops.system.layout import executable

REFUSED = 2
REFUSED_WITHIN = 30.0
WRITTEN_SINCE = 1.5
"""Seconds between the backup of the journal and the producer's stop: events accepted in them are in no backup."""
AWAY = 2.0
LOOKS, LOOK_SECONDS = 2_000, 0.02
GAP = re.compile(r"^unlost_source_gaps_total(?:\{[^}]*\})? [1-9]", re.MULTILINE)


async def start_second_producer(journal: Path) -> None:
    """Start a second producer, which must exit by itself with code 2. Raises ``StageError`` if it does not."""
    environment = {**os.environ, "JOURNAL": str(journal), "PORT": "0", "WS_PORT": "0"}
    second = await asyncio.create_subprocess_exec(
        executable("unlost"),
        "producer",
        env=environment,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(REFUSED_WITHIN):
            _, said = await second.communicate()
    except TimeoutError:
        second.kill()
        await second.wait()
        raise StageError("a second producer runs on the same journal") from None
    if second.returncode != REFUSED or b"in use by another producer" not in said:
        raise StageError(f"a second producer ended with {second.returncode}: {said[-300:].decode(errors='replace')}")


def back_up(journal: Path) -> None:
    """Copy the journal while it is in use, as documented."""
    with closing(sqlite3.connect(journal)) as source, closing(sqlite3.connect(_copy_of(journal))) as copy:
        source.backup(copy)


def restore(journal: Path) -> None:
    """Put the copy in the journal's place while no producer runs, as documented."""
    for suffix in ("-wal", "-shm"):
        journal.with_name(journal.name + suffix).unlink(missing_ok=True)
    _copy_of(journal).replace(journal)


def _copy_of(journal: Path) -> Path:
    return journal.with_name("backup.sqlite")


async def set_journal_back(stage: Stage) -> None:
    """Set the journal back to a backup.

    The producer is stopped in order, so that listeners have read everything that the backup lacks. Unread events would
    be lost with the file.
    """
    await stage.back_up_journal()
    await asyncio.sleep(WRITTEN_SINCE)
    await stage.stop("producer")
    await stage.restore_journal()


async def start_and_see_gaps(stage: Stage) -> None:
    """Start the producer. Each listener has a cursor that the restored journal does not know, and must report a gap."""
    await stage.start("producer")
    async with httpx.AsyncClient(timeout=2, trust_env=False, headers=stage.headers) as client:
        for url in stage.listener_urls:
            await _gap(client, url)


async def _gap(client: httpx.AsyncClient, url: str) -> None:
    for _ in range(LOOKS):
        with contextlib.suppress(httpx.TransportError):
            if GAP.search((await client.get(f"{url}/metrics")).text):
                return
        await asyncio.sleep(LOOK_SECONDS)
    raise StageError(f"{url} declared no gap, though the journal was set back")


async def declared_gaps(listener_urls: Sequence[str]) -> list[str]:
    """Return a sentence for each listener that has declared a gap, or does not answer."""
    async with httpx.AsyncClient(timeout=5, trust_env=False) as client:
        try:
            found = [(url, GAP.search((await client.get(f"{url}/metrics")).text)) for url in listener_urls]
        except httpx.TransportError as error:
            return [f"a listener's metrics did not answer: {type(error).__name__}"]
    return [f"{url} declared a gap, though the journal has everything" for url, gap in found if gap]


async def revive_first_and_kill_second(stage: Stage) -> None:
    """Start the first producer again, and then kill the second: every client has lost its producer once."""
    await asyncio.sleep(AWAY)
    await stage.start("producer-1")
    await stage.producer_is_ready("producer-1")
    await stage.kill("producer-2")
    await asyncio.sleep(AWAY)


async def move_journal(stage: Stage) -> None:
    """Move the journal to PostgreSQL."""
    await stage.move_journal()


async def move_journal_back(stage: Stage) -> None:
    """Move it back to its file, with what came meanwhile."""
    await stage.move_journal(back=True)
