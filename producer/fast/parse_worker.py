"""Reads the lines of large batches in a second process, if there is a second core.

The event loop and the journal's thread share one interpreter, and checking a line costs more of it than storing it. The
first large batch starts the process. Until it is up, and after it ended or did not answer, the caller reads the lines
by the same function. After a while a new process is started. The process keeps nothing, so nothing is lost with it.
"""

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections import deque
from typing import cast

import msgspec
import structlog

from unlost.producer.fast.parse_process import SIZE
from unlost.producer.journal.publications import Index, Lines

MANY = 128
"""For fewer lines, sending them to another process costs more than it saves."""
ANSWER_SECONDS = 5.0
AGAIN_AFTER = 10.0
BUFFER = 1 << 20

_index = msgspec.msgpack.Decoder(Index).decode


class Lost(Exception):
    """The process cannot be started, has ended, or does not answer."""


class ParseWorker:
    """Makes publications from lines in another process. Must be closed."""

    def __init__(
        self,
        *,
        max_bytes: int,
        cores: int | None = None,
        answer_seconds: float = ANSWER_SECONDS,
        again_after: float = AGAIN_AFTER,
    ) -> None:
        self._max_bytes = max_bytes
        self._cores = _cores() if cores is None else cores
        self._answer_seconds = answer_seconds
        self._again_after = again_after
        self._not_before = 0.0
        self.process: ParseProcess | None = None

    async def elsewhere(self, text: bytes, count: int, *, redeliver: bool) -> Lines | None:
        """Read these ``count`` lines (see ``accept.plain_index``). None also if they are too few, or no process is
        ready."""
        process = self._process_for(count)
        if process is None:
            return None
        try:
            index = await self._read(process, text, count)
        except Lost as lost:
            self._lose(process, lost)
            return None
        return None if index is None else Lines(text, index, redeliver)

    async def _read(self, process: "ParseProcess", text: bytes, count: int) -> Index | None:
        try:
            async with asyncio.timeout(self._answer_seconds):
                answer = await process.ask(text)
            index = _index(answer) if answer else None
        except TimeoutError:
            raise Lost(f"it did not answer within {self._answer_seconds:g} s") from None
        except (OSError, msgspec.DecodeError) as error:
            raise Lost(str(error)) from error
        if index and not index.fits(text, count):
            raise Lost("it answered for other lines")
        return index

    def _process_for(self, count: int) -> "ParseProcess | None":
        if count < MANY or self._cores < 2:  # on a single core the process would only compete with this one
            return None
        if self.process and self.process.ended.is_set():
            self._lose(self.process, Lost("it ended"))
        if self.process is None and time.monotonic() >= self._not_before:
            self._not_before = time.monotonic() + self._again_after
            try:
                self.process = ParseProcess(self._max_bytes)
            except OSError as error:
                structlog.get_logger().warning("reading_process_lost", why=f"it cannot be started: {error}")
        return self.process if self.process and self.process.is_up.is_set() else None

    def _lose(self, process: "ParseProcess", lost: Lost) -> None:
        process.end()
        if self.process is process:
            self.process = None
            structlog.get_logger().warning("reading_process_lost", why=str(lost))

    def close(self) -> None:
        """End the process."""
        if self.process is not None:
            self.process.end()
            self.process = None


class ParseProcess(asyncio.Protocol):
    """The process and the connection to it. Raises ``OSError`` if it cannot be started."""

    def __init__(self, max_bytes: int) -> None:
        self._read = bytearray()
        self._asked: deque[asyncio.Future[bytes]] = deque()
        self._transport: asyncio.Transport | None = None
        self.is_up = asyncio.Event()
        self.ended = asyncio.Event()
        ours, its = socket.socketpair()
        self._ours = ours
        try:
            with its:
                command = [sys.executable, "-P", "-m", "unlost.producer.fast.parse_process", str(max_bytes)]
                # A session of its own, so that Ctrl-C reaches only the producer, which finishes what it reads.
                self._process = subprocess.Popen(
                    command, stdin=its.fileno(), stdout=its.fileno(), start_new_session=True
                )
        except OSError:
            ours.close()
            raise
        for end in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            ours.setsockopt(socket.SOL_SOCKET, end, BUFFER)
        loop = asyncio.get_running_loop()
        self._connecting = loop.create_task(
            loop.create_unix_connection(lambda: self, sock=ours), name="way to the reading process"
        )

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self._process.pid

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See ``asyncio.Protocol``, as for the next two methods."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's transport is no subclass of it

    def data_received(self, data: bytes) -> None:
        """Match each answer to the oldest question. The first message answers none: it shows that the process is up."""
        self._read += data
        while len(self._read) >= SIZE.size:
            end = SIZE.size + SIZE.unpack_from(self._read)[0]
            if len(self._read) < end:
                return
            answer = bytes(self._read[SIZE.size : end])
            del self._read[:end]
            if self.is_up.is_set():
                asked = self._asked.popleft()
                if not asked.done():
                    asked.set_result(answer)
            self.is_up.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """The process ended: fail all open questions."""
        self.ended.set()
        for asked in self._asked:
            if not asked.done():
                asked.set_exception(exc or ConnectionError("it ended"))
        self._asked.clear()

    def ask(self, question: bytes) -> "asyncio.Future[bytes]":
        """Ask for an index. The future fails with ``OSError`` if the process ends first."""
        asked: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        if self._transport is None or self.ended.is_set():
            asked.set_exception(ConnectionError("it ended"))
            return asked
        self._asked.append(asked)
        self._transport.writelines((SIZE.pack(len(question)), question))
        return asked

    def end(self) -> None:
        """End the process at once: it holds nothing."""
        self._connecting.cancel()
        if self._transport is not None:
            self._transport.close()
        else:
            self._ours.close()
        self._process.kill()
        self._process.wait()


def _cores() -> int:
    """The cores that this process may use, if the system reports them."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
