"""Moves a drill's journal with ``unlost journal migrate``, which is killed once in each of its steps."""

import asyncio
import os
import re
from pathlib import Path

from unlost.ops.faults.drills.stage import StageError
from unlost.ops.system.layout import executable

STEPS = ("is being made", "copied up to", "is being marked as moved", "is being opened for producers")
MOVED_WITHIN = 60.0
REFUSED, REFUSED_WITHIN = 2, 30.0
ADDRESS = re.compile(r"://[^@/]*@")


async def migrate_with_kills(source: str, target: str, directory: Path, *, is_new: bool) -> None:
    """Run the command until it ends by itself. Raises ``StageError`` unless each step was killed once.

    ``directory``: where it leaves its trail. ``is_new``: the target has no journal yet, so it is made.
    """
    left = {*STEPS} if is_new else {*STEPS[1:]}
    async with asyncio.timeout(MOVED_WITHIN):
        while (killed := await _run(source, target, directory, left)) is not None:
            left.discard(killed)
    if left:
        raise StageError(f"unlost journal migrate was not killed where it says: {', '.join(sorted(left))}")


async def _run(source: str, target: str, directory: Path, left: set[str]) -> str | None:
    """Run it once, and kill it in the first of these steps. Returns the step, or None if it ended."""
    process = await asyncio.create_subprocess_exec(
        executable("unlost"), "journal", "migrate", source, target,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, cwd=directory,
    )  # fmt: skip
    said = b""
    if process.stdout is None:
        raise StageError("unlost journal migrate has no output")
    try:
        async for line in process.stdout:
            said += line
            step = next((one for one in left if one.encode() in line), None)
            if step is not None:
                return step
        if await process.wait():
            raise StageError(f"unlost journal migrate ended with {process.returncode}: {said[-300:].decode()}")
        return None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def refuses_producers(journal: str, moved_to: str) -> None:
    """Start a producer on a journal that has moved: it must end at once, and name the other one."""
    environment = {**os.environ, "JOURNAL": journal, "PORT": "0", "WS_PORT": "0"}
    producer = await asyncio.create_subprocess_exec(
        executable("unlost"), "producer", env=environment, stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(REFUSED_WITHIN):
            _, said = await producer.communicate()
    except TimeoutError:
        producer.kill()
        await producer.wait()
        raise StageError("a producer runs on the journal that has moved") from None
    place = ADDRESS.split(moved_to)[-1]
    if producer.returncode != REFUSED or place.encode() not in said or b"has moved to" not in said:
        raise StageError(f"a producer on the journal that has moved ended with {producer.returncode}: {said[-300:]!r}")
