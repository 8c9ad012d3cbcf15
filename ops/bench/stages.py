"""Measures each stage alone, as fast as we can run it. The sum of their processor times gives the machine's limit.

The parts are the product's own; only the code between them is left out.
"""

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from unlost.dlq.record.file import DeadLetterFile
from unlost.dlq.record.letter import letter_for
from unlost.listener.claims.redis.adapter import RedisClaims
from unlost.listener.claims.redis.servers import redis_servers
from unlost.listener.core.claim import ClaimRequest
from unlost.listener.core.errors import Transient, failure_of
from unlost.listener.core.event import Event
from unlost.listener.core.oversized import Oversized
from unlost.listener.fast.pool import FAST
from unlost.listener.fast.websocket import open_stream
from unlost.listener.pipeline.frames import read_frames
from unlost.listener.ports.rows import NewRow
from unlost.listener.source.reader import AT_ONCE as AT_ONCE_MESSAGES
from unlost.listener.source.reader import BYTES_AT_ONCE
from unlost.listener.source.stream.lines import ACCEPT, LINES, batch_of
from unlost.listener.source.websocket.connection import WebSocketOptions
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.rows import PostgresRows
from unlost.ops.bench import processor
from unlost.ops.bench.bed import Bed
from unlost.ops.bench.figures import Measured
from unlost.ops.bench.load import events
from unlost.producer.journal.sqlite.adapter import SqliteJournal
from unlost.producer.publish.accept import publication

BATCH = 1_024
COMMIT = 4_096
LARGEST = 1 << 30
TOKEN = "bench:0123456789abcdef"  # noqa: S105  a name, no secret
SINGLES = 10
"""The number of events published one per request is this fraction of all."""
NEEDED = ("receive", "claim", "insert", "settle")
"""The stages of each event between the journal and its settlement."""
AT_ONCE = 3
"""Concurrent batches, as in the listener."""


async def measure(bed: Bed, *, count: int, size: int) -> dict[str, Measured]:
    """Measure all stages, one after the other."""
    lines = events(count, bed.new_run(), size)
    await bed.forget_rows()
    measured = {"journal": await _journal(lines)}
    some = events(count // SINGLES, bed.new_run(), size)
    measured["publish, one a request"] = await _counted(bed, len(some), lambda: bed.publish_each(some))
    stream = await bed.stream_from_here()
    measured["publish"] = await _counted(bed, count, lambda: bed.publish(lines))
    frames: list[Event] = []
    measured["receive"] = await _counted(bed, count, lambda: _receive(stream, count, frames))
    claims = RedisClaims(
        redis_servers(bed.system.redis_url, timeout=5.0), token=TOKEN, group="bench", lease_seconds=30,
        window_seconds=600_000,
    )  # fmt: skip
    await claims.place()
    requests = [ClaimRequest(one.event_id, one.digest) for one in frames]
    measured["claim"] = await _counted(
        bed, count, lambda: _each(requests, lambda few: claims.claim(few, take_over=False))
    )
    database = Database(bed.system.database_url, kind=FAST)
    store = PostgresRows(database, instance_id="bench", token=TOKEN)
    rows = [NewRow(one, 1, 1, time.time()) for one in frames]
    measured["insert"] = await _counted(bed, count, lambda: _each(rows, store.insert, at_once=AT_ONCE))
    measured["settle"] = await _counted(bed, count, lambda: _each(requests, lambda few: claims.settle(few, "done")))
    await claims.close()
    await database.close()
    measured["bury"] = await _bury(frames)
    return measured


async def _counted(bed: Bed, count: int, work: Callable[[], Awaitable[object]]) -> Measured:
    before, started = processor.seconds(bed.server_pids), time.perf_counter()
    await work()
    seconds = time.perf_counter() - started
    return Measured(count, seconds, processor.seconds(bed.server_pids) - before)


async def _each(items: Sequence[object], call: Callable[..., Awaitable[object]], *, at_once: int = 1) -> None:
    batches = iter([items[first : first + BATCH] for first in range(0, len(items), BATCH)])

    async def worker() -> None:
        for batch in batches:
            await call(batch)

    await asyncio.gather(*(worker() for _ in range(at_once)))


async def _receive(url: str, count: int, into: list[Event]) -> None:
    """Read the stream, and decode it as a listener does."""
    async with open_stream(url, WebSocketOptions(max_frame=LARGEST, offers={ACCEPT: LINES})) as stream:
        while len(into) < count:
            messages = await stream.take(AT_ONCE_MESSAGES, BYTES_AT_ONCE)
            assert not isinstance(messages, Oversized)
            found = read_frames(batch_of(messages).bodies, max_bytes=LARGEST)
            into += [event for event in found if isinstance(event, Event)]


async def _journal(lines: Sequence[bytes]) -> Measured:
    """Measure the journal alone, with commits as large as a busy producer's."""
    publications = [publication(line, max_bytes=LARGEST) for line in lines]
    with tempfile.TemporaryDirectory(prefix="unlost-journal-") as directory:
        journal = SqliteJournal(Path(directory) / "journal.sqlite3")

        def write() -> None:
            for first in range(0, len(publications), COMMIT):
                journal.append([publications[first : first + COMMIT]], time.time())

        before, started = processor.seconds(()), time.perf_counter()
        await asyncio.to_thread(write)
        measured = Measured(len(lines), time.perf_counter() - started, processor.seconds(()) - before)
        journal.close()
    return measured


async def _bury(frames: Sequence[Event]) -> Measured:
    failure = failure_of(Transient("PostgreSQL is away"), stage="store", at=time.time())
    with tempfile.TemporaryDirectory(prefix="unlost-letters-") as directory:
        file = DeadLetterFile(Path(directory) / "failed_events.jsonl")

        def write() -> None:
            for first in range(0, len(frames), BATCH):
                file.append(
                    [
                        letter_for(
                            event, letter_id=f"{number:012x}{first:016x}", reason="exhausted", stage="store",
                            attempts=[failure] * 3, at=time.time(), instance="bench", epoch=1, mode="normal",
                            source="bench",
                        )
                        for number, event in enumerate(frames[first : first + BATCH])
                    ]
                )  # fmt: skip

        before, started = processor.seconds(()), time.perf_counter()
        await asyncio.to_thread(write)
        measured = Measured(len(frames), time.perf_counter() - started, processor.seconds(()) - before)
        file.close()
    return measured
