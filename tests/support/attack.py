"""Peers that mean harm, and what a process's memory and health do meanwhile."""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import psutil

MEBIBYTE = 1024 * 1024


@dataclass
class Watching:
    """Memory and the slowest answers of one process."""

    before: int
    most: int = 0
    waits: list[float] = field(default_factory=list)

    @property
    def growth(self) -> float:
        return (self.most - self.before) / MEBIBYTE

    @property
    def typical(self) -> float:
        return sorted(self.waits)[len(self.waits) // 2]


@contextlib.contextmanager
def watching(pid: int, url: str) -> Iterator[Watching]:
    """Look at a process all the time, from a thread: probe its health over new connections, and read its memory."""
    process = psutil.Process(pid)
    seen = Watching(process.memory_info().rss)
    over = threading.Event()
    with ThreadPoolExecutor(1) as threads:
        looking = threads.submit(_look, process, url, seen, over)
        try:
            yield seen
        finally:
            over.set()
        looking.result()


def _look(process: psutil.Process, url: str, seen: Watching, over: threading.Event) -> None:
    while True:
        began = time.monotonic()
        answer = _probed(url)
        seen.waits.append(time.monotonic() - began)
        assert answer.startswith(b"HTTP/1.1 200"), answer
        seen.most = max(seen.most, process.memory_info().rss)
        if over.wait(0.02):
            return


def _probed(url: str) -> bytes:
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), 5) as connection:
        connection.sendall(b"GET /health/live HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n")
        return connection.recv(65_536)


async def opened(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    parts = urlsplit(url)
    return await asyncio.open_connection(parts.hostname, parts.port)


async def exchanged(url: str, sent: bytes, *, seconds: float = 20) -> bytes:
    """All that comes back until the server closes."""
    async with asyncio.timeout(seconds):
        reader, writer = await opened(url)
        try:
            writer.write(sent)
            return await reader.read()
        finally:
            writer.close()


async def flooded(url: str, first: bytes, piece: bytes, size: int) -> bytes:
    """Send ``first`` and pieces without end, to ``size`` bytes; what is answered."""
    reader, writer = await opened(url)
    with contextlib.suppress(ConnectionError):
        writer.write(first)
        for _ in range(size // len(piece)):
            writer.write(piece)
            await writer.drain()
    with contextlib.suppress(ConnectionError):
        writer.write_eof()
    try:
        async with asyncio.timeout(20):
            return await reader.read()
    finally:
        writer.close()


class Crowd:
    """Many connections that have each sent the same, and then wait."""

    def __init__(self, url: str, sent: bytes) -> None:
        self._url = url
        self._sent = sent
        self._open: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def come(self, count: int, *, at_once: int = 100) -> None:
        for first in range(0, count, at_once):
            await asyncio.gather(*(self._one() for _ in range(first, min(count, first + at_once))))

    async def _one(self) -> None:
        with contextlib.suppress(ConnectionError):
            reader, writer = await opened(self._url)
            self._open.append((reader, writer))
            writer.write(self._sent)
            await writer.drain()

    async def answers(self, seconds: float) -> list[bytes]:
        """What each was told, once the server has closed them all."""
        async with asyncio.timeout(seconds):
            return await asyncio.gather(*(_rest(reader) for reader, _ in self._open))

    def go(self) -> None:
        for _, writer in self._open:
            writer.close()


async def _rest(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read()
    except ConnectionError:
        return b""
