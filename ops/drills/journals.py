"""What drills do to the producer's journal on this machine."""

import asyncio
import os
import sqlite3
from contextlib import closing
from pathlib import Path

from ops.drills.stage import StageTrouble
from ops.local.layout import executable

REFUSED = 2
REFUSED_WITHIN = 30.0


async def start_second_producer(journal: Path) -> None:
    """It ends by itself, with exit code 2; ``StageTrouble`` if it does anything else."""
    environment = {**os.environ, "JOURNAL": str(journal), "PORT": "0", "WS_PORT": "0"}
    second = await asyncio.create_subprocess_exec(
        executable("producer"), env=environment, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(REFUSED_WITHIN):
            _, said = await second.communicate()
    except TimeoutError:
        second.kill()
        await second.wait()
        raise StageTrouble("a second producer runs on the same journal") from None
    if second.returncode != REFUSED or b"in use by another producer" not in said:
        raise StageTrouble(f"a second producer ended with {second.returncode}: {said[-300:].decode(errors='replace')}")


def back_up(journal: Path) -> None:
    """As documented, while it is in use."""
    with closing(sqlite3.connect(journal)) as source, closing(sqlite3.connect(_copy_of(journal))) as copy:
        source.backup(copy)


def restore(journal: Path) -> None:
    """As documented, while no producer runs."""
    for suffix in ("-wal", "-shm"):
        journal.with_name(journal.name + suffix).unlink(missing_ok=True)
    _copy_of(journal).replace(journal)


def _copy_of(journal: Path) -> Path:
    return journal.with_name("backup.sqlite")
