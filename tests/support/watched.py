"""What a process's memory, files and answers about health do while others attack it.

A probe's wait is divided: while the process, or the probe, stood in the kernel's run queue, others used the processors;
that is the machine's part. All else is the process's own: its event loop was busy, or blocked.
"""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import psutil

MEBIBYTE = 1024 * 1024
EVERY = 0.02


@dataclass
class Watched:
    """Of one process, since the watching began."""

    before: int
    most: int = 0
    files: int = 0
    longest: float = 0.0
    """The longest wait for an answer about health, without what the machine had of it."""
    waits: list[float] = field(default_factory=list)
    """All waits as the clock had them."""

    @property
    def growth(self) -> float:
        return (self.most - self.before) / MEBIBYTE


@contextlib.contextmanager
def watching(pid: int, url: str) -> Iterator[Watched]:
    """Look at a process all the time, from a thread: probe its health over new connections."""
    process = psutil.Process(pid)
    _probed(url)
    seen = Watched(process.memory_info().rss)
    over = threading.Event()
    with ThreadPoolExecutor(1) as threads:
        looking = threads.submit(_look, process, url, seen, over)
        try:
            yield seen
        finally:
            over.set()
        looking.result()


def _look(process: psutil.Process, url: str, seen: Watched, over: threading.Event) -> None:
    loop = Path(f"/proc/{process.pid}/schedstat")  # of its first thread, which runs the event loop
    me = Path("/proc/thread-self/schedstat")
    is_over = False
    while not is_over:
        is_over = over.wait(EVERY)  # once more after the end
        queued = _queued(loop) + _queued(me)
        began = time.monotonic()
        _probed(url)
        wait = time.monotonic() - began
        seen.waits.append(wait)
        seen.longest = max(seen.longest, wait - (_queued(loop) + _queued(me) - queued))
        seen.most = max(seen.most, process.memory_info().rss)
        seen.files = max(seen.files, process.num_fds())


def _queued(thread: Path) -> float:
    """Seconds for which a thread could run and had no processor; 0 where the kernel does not count them."""
    try:
        return int(thread.read_text().split()[1]) / 1e9
    except FileNotFoundError:
        return 0.0


def _probed(url: str) -> None:
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), 5) as connection:
        connection.sendall(b"GET /health/live HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n")
        answer = connection.recv(65_536)
    assert answer.startswith(b"HTTP/1.1 200"), answer
