"""The parse process reads the lines of large batches, or leaves them to the caller, whatever happens to it."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator

import psutil
import pytest

from unlost.producer.fast.parse_worker import MANY, ParseWorker
from unlost.producer.journal.publications import Publication
from unlost.producer.publish.accept import publication

LIMIT = 10_000
LINES = [b'{"event_id":"e%d","payload":{"n":%d}}' % (number, number) for number in range(MANY)]
SAME = [publication(line, max_bytes=LIMIT) for line in LINES]


@pytest.fixture
async def reading() -> AsyncIterator[ParseWorker]:
    reading = ParseWorker(max_bytes=LIMIT, cores=2, answer_seconds=1.0, again_after=0.0)
    yield reading
    reading.close()


async def read(reading: ParseWorker, lines: list[bytes]) -> list[Publication] | None:
    found = await reading.elsewhere(b"\n".join(lines), len(lines), redeliver=False)
    return None if found is None else list(found)


async def up(reading: ParseWorker) -> psutil.Process:
    """Start the process, and wait until it is up."""
    assert await read(reading, LINES) is None
    assert reading.process
    async with asyncio.timeout(30):
        await reading.process.is_up.wait()
    return psutil.Process(reading.process.pid)


async def test_reads_the_same_lines_the_same(reading: ParseWorker) -> None:
    await up(reading)
    others = [line.replace(b"e", b"f", 1) for line in LINES]
    assert await asyncio.gather(*(read(reading, lines) for lines in (LINES, others, LINES))) == [SAME, None, SAME]
    assert reading.process
    assert not reading.process.ended.is_set()


@pytest.mark.parametrize(
    "bad",
    [
        b"nonsense",
        b'{"event_id":"e","payload":{"a":1,"a":2}}',
        b'{"event_id":"e","payload":1,"cursor":"c"}',
        b'{"event_id":"\\ud800","payload":1}',
        b'{"event_id":"e","payload":%b}' % (b"[" * 9_000),
        b'{"event_id":"e","payload":"%b"}' % (b"x" * LIMIT),
        b'{"event_id":"e",\r"payload":1}',
    ],
)
async def test_leaves_lines_of_which_one_needs_care(reading: ParseWorker, bad: bytes) -> None:
    process = await up(reading)
    assert await read(reading, [*LINES, bad]) is None
    assert await read(reading, LINES) == SAME
    assert process.is_running()


async def test_leaves_what_a_killed_process_does_not_answer_and_starts_another(reading: ParseWorker) -> None:
    process = await up(reading)
    process.suspend()
    asked = asyncio.create_task(read(reading, LINES))
    await asyncio.sleep(0)
    process.kill()
    assert await asked is None
    assert (await up(reading)).pid != process.pid
    assert not psutil.pid_exists(process.pid)


async def test_starts_another_where_one_ended_unasked(reading: ParseWorker) -> None:
    process = await up(reading)
    assert reading.process
    first = reading.process
    process.kill()
    async with asyncio.timeout(30):
        await first.ended.wait()
    assert (await up(reading)).pid != process.pid


async def test_does_not_wait_for_ever_for_one_that_is_frozen(reading: ParseWorker) -> None:
    process = await up(reading)
    os.kill(process.pid, signal.SIGSTOP)
    assert await read(reading, LINES) is None
    assert not psutil.pid_exists(process.pid)


async def test_goes_on_after_a_caller_that_left(reading: ParseWorker) -> None:
    await up(reading)
    left = asyncio.create_task(read(reading, LINES))
    await asyncio.sleep(0)
    left.cancel()
    assert await read(reading, LINES) == SAME
    assert reading.process
    assert not reading.process.ended.is_set()


@pytest.mark.parametrize(("cores", "count"), [(1, MANY), (2, MANY - 1)])
async def test_starts_none_where_it_would_not_help(cores: int, count: int) -> None:
    reading = ParseWorker(max_bytes=LIMIT, cores=cores)
    assert await read(reading, LINES[:count]) is None
    assert reading.process is None


async def test_takes_the_process_with_it() -> None:
    reading = ParseWorker(max_bytes=LIMIT, cores=2)
    process = await up(reading)
    reading.close()
    assert not psutil.pid_exists(process.pid)
    early = ParseWorker(max_bytes=LIMIT, cores=2)
    assert await read(early, LINES) is None
    early.close()
    assert early.process is None
