"""Malicious peers, in a separate process, so that their work does not slow down the tests that observe."""

import asyncio
import contextlib
import multiprocessing
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar
from urllib.parse import urlsplit

from unlost.ops.kit.telemetry.admission import files_allowed

T = TypeVar("T")


@dataclass(frozen=True)
class Attackers:
    """Runs attacks in another process, with a low priority."""

    pool: ProcessPoolExecutor

    async def __call__(self, attack: Callable[..., Coroutine[None, None, T]], *arguments: object, **more: object) -> T:
        work = partial(attack, *arguments, **more)
        return await asyncio.get_running_loop().run_in_executor(self.pool, _run, work)


def _run(attack: Callable[[], Coroutine[None, None, T]]) -> T:
    return asyncio.run(attack())


@contextlib.contextmanager
def attackers(processes: int) -> Iterator[Attackers]:
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), _begin) as pool:
        yield Attackers(pool)


def _begin() -> None:
    os.nice(10)
    assert files_allowed() > 3_500, "this process needs a higher limit of open files: ulimit -n"


async def exchanged(url: str, sent: bytes, *, seconds: float = 20) -> bytes:
    """Everything that comes back until the server closes."""
    async with asyncio.timeout(seconds), _opened(url) as (reader, writer):
        writer.write(sent)
        return await reader.read()


async def flooded(url: str, attacks: Sequence[tuple[bytes, bytes]], size: int) -> list[bytes]:
    """Send many streams at once: a beginning, then one piece again and again, up to ``size`` bytes. Returns answers."""
    return await asyncio.gather(*(_flood(url, first, piece, size) for first, piece in attacks))


async def _flood(url: str, first: bytes, piece: bytes, size: int) -> bytes:
    async with asyncio.timeout(60), _opened(url) as (reader, writer):
        answer = asyncio.ensure_future(_rest(reader))  # now: a reset discards what came before it
        with contextlib.suppress(ConnectionError):
            writer.write(first)
            for _ in range(size // len(piece)):
                writer.write(piece)
                await writer.drain()
            writer.write_eof()
        return await answer


async def crowded(url: str, sent: Sequence[bytes], count: int, *, at_once: int = 100) -> list[bytes]:
    """Open ``count`` connections. Each sends one of ``sent`` and waits. Returns what each was answered in the end."""
    room = asyncio.Semaphore(at_once)
    async with asyncio.timeout(90):
        return await asyncio.gather(*(_wait(url, sent[number % len(sent)], room) for number in range(count)))


async def _wait(url: str, sent: bytes, room: asyncio.Semaphore) -> bytes:
    async with contextlib.AsyncExitStack() as stack:
        async with room:
            try:
                reader, writer = await stack.enter_async_context(_opened(url))
                writer.write(sent)
                await writer.drain()
            except ConnectionError:
                return b""
        return await _rest(reader)


@contextlib.asynccontextmanager
async def _opened(url: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def _rest(reader: asyncio.StreamReader) -> bytes:
    """Return all that comes until the connection ends. A reset after the answer does not take the answer back."""
    answer = b""
    with contextlib.suppress(ConnectionError):
        while piece := await reader.read(65_536):
            answer += piece
    return answer
