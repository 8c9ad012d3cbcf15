"""A replay of letters from the fleet's list or from a file, by the command that people use, beside the live rate."""

import asyncio
import json
import os
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

from unlost.dlq.record.file import DeadLetterFile
from unlost.dlq.record.letter import Letter, letter_for
from unlost.dlq.record.letter_line import encode
from unlost.listener.core.errors import Failure
from unlost.listener.core.event import parse
from unlost.listener.store.burials import burial_of
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.letter_rows import Listed
from unlost.listener.store.postgres.letters import LetterTable
from unlost.ops.bench import handlers, processor
from unlost.ops.bench.bed import WAIT, Bed
from unlost.ops.bench.figures import Measured
from unlost.ops.bench.results import Results

AT_ONCE, WRITTEN_AT_ONCE = 2_000, 20_000
FIRST = 1_700_000_000.0
GROUPS, TYPES = 200, 20
DLQ = (sys.executable, "-m", "unlost", "dlq")
LIVE, REPLAYED = "live, handler 0 ms", "replay, handler 0 ms"

Kind: TypeAlias = Literal["list", "file"]


class Look(NamedTuple):
    """How many letters a replay has stored, and the processor seconds used so far: by itself, and by the servers."""

    stored: int
    at: float
    here: float
    there: float


def letters(count: int) -> Iterator[Letter]:
    """Letters of several failures and types, in order of time."""
    for number in range(count):
        frame = {
            "event_id": f"order-{number}",
            "type": f"type.{number % TYPES}",
            "payload": {"n": number, "sku": "x" * 100},
        }
        event = parse(json.dumps(frame), max_bytes=10_000)
        at = FIRST + number
        failure = Failure(at, "handle", "transient", f"Error{number % GROUPS}", f"no such order {number}")
        yield letter_for(
            event, letter_id=f"{number:012x}{'0' * 16}", reason="exhausted", stage="handle", attempts=[failure],
            at=at, instance="a", epoch=1, mode="normal", source="ws://127.0.0.1/",
        )  # fmt: skip


def write(directory: Path, count: int) -> Path:
    """Write a file of letters."""
    path = directory / "letters.jsonl"
    file = DeadLetterFile(path)
    found = letters(count)
    while some := list(islice(found, WRITTEN_AT_ONCE)):
        file.append(some)
    file.close()
    return path


async def measure(bed: Bed, results: Results, *, count: int, rounds: int) -> None:
    """Measure live events and a replay from the list in turn, both with a handler that takes no time."""
    live: list[Measured] = []
    again: list[Measured] = []
    for number in range(rounds):
        live.append(await handlers.stored(bed, "instant", count=count))
        directory = bed.system.layout.data / f"replay-{number}"
        again.append(await replayed(bed, "list", count=count, directory=directory, handler="instant"))
    results.keep(LIVE, live)
    results.keep(REPLAYED, again)
    results.compare("replay", [one.rate for one in again], [one.rate for one in live])


async def replayed(bed: Bed, kind: Kind, *, count: int, directory: Path, handler: str) -> Measured:
    """Replay so many letters; measure from the first report of progress to the last. ``handler``: of the benchmark."""
    await bed.forget_rows()
    await bed.reports.truncate_letters()
    await asyncio.to_thread(directory.mkdir)
    files = [str(write(directory, count))] if kind == "file" else []
    if kind == "list":
        await _list(bed, count)
    urls = "--database-url", bed.system.database_url, "--redis-url", bed.system.redis_url
    flags = ("--handler", f"{handlers.__name__}:{handler}") if handler else ("--without-handler",)
    process = await asyncio.create_subprocess_exec(
        *DLQ, "replay", *files, "--follow", *urls, *flags, stdout=asyncio.subprocess.PIPE, env=dict(os.environ)
    )
    try:
        async with asyncio.timeout(WAIT):
            first, end = await _followed(bed, process, count)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    stored = end.stored - first.stored
    return Measured(stored, end.at - first.at, end.here - first.here, end.there - first.there)


async def _list(bed: Bed, count: int) -> None:
    database = Database(bed.system.database_url)
    table, found = LetterTable(database, token="bench"), letters(count)  # noqa: S106  a name, no secret
    while some := list(islice(found, AT_ONCE)):
        await table.add("a", [Listed(one, encode(one), burial_of(one), None) for one in some])
    await database.close()


async def _followed(bed: Bed, process: asyncio.subprocess.Process, count: int) -> tuple[Look, Look]:
    """Return the first and the last look at a replay. Raises ``RuntimeError`` unless it stores every letter."""
    assert process.stdout is not None
    looks = list[Look]()
    report: dict[str, int] = {}
    async for line in process.stdout:
        said = json.loads(line)
        report = said.get("report", report)
        if "progress" in said:
            here, there = (processor.seconds(pids, self_too=False) for pids in ([process.pid], bed.server_pids))
            looks.append(Look(said["progress"]["stored"], time.monotonic(), here, there))
    await process.wait()
    if report.get("stored") != count or len(looks) < 2:
        raise RuntimeError(f"a replay of {count:,} letters reported {report}, with {len(looks)} reports of progress")
    return looks[0], looks[-1]
