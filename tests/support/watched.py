"""Measures memory, files and health answers of a process while others attack it.

The wait for a probe is split. Time that the process or the probe spent in the kernel's run queue, while others used the
processors, is the machine's part. The rest is the process's own: its event loop was busy or blocked.
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
    """The measurements of one process since the start of watching."""

    before: int
    most: int = 0
    files: int = 0
    longest: float = 0.0
    """The longest wait for a health answer, without the machine's part."""
    waits: list[float] = field(default_factory=list)
    """All waits as measured by the clock."""

    @property
    def growth(self) -> float:
        return (self.most - self.before) / MEBIBYTE


@contextlib.contextmanager
def watching(pid: int, url: str) -> Iterator[Watched]:
    """Watch a process continuously, from a thread, and probe its health over new connections."""
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
        is_over = over.wait(EVERY)  # one more probe after the end
        queued = _queued(loop) + _queued(me)
        began = time.monotonic()
        _probed(url)
        wait = time.monotonic() - began
        seen.waits.append(wait)
        seen.longest = max(seen.longest, wait - (_queued(loop) + _queued(me) - queued))
        seen.most = max(seen.most, process.memory_info().rss)
        seen.files = max(seen.files, process.num_fds())


def _queued(thread: Path) -> float:
    """Seconds for which a thread was runnable without a processor; 0 if the kernel does not count them."""
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
