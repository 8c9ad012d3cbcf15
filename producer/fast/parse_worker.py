"""Reading the lines of a batch in a process of its own, where there are many, and a second core.

Event loop and journal's thread share one interpreter, and to check a line costs more of it than to place it. The first
large batch starts the process. Until it is up, and where it ended or does not answer, whoever asks reads the lines by
the same function; after a while another one is started. It keeps nothing, so with it nothing is lost.
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
"""For fewer lines the way to another process and back costs more than it saves."""
ANSWER_SECONDS = 5.0
AGAIN_AFTER = 10.0
BUFFER = 1 << 20

_index = msgspec.msgpack.Decoder(Index).decode


class Lost(Exception):
    """The process cannot be started, has ended, or does not answer."""


class ParseWorker:
    """Makes publications of lines, elsewhere. To be closed."""

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
        """So many lines. See ``accept.plain_index``; None also where the process cannot do it, now or for so few."""
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
        if count < MANY or self._cores < 2:  # on one core it would only take turns
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
    """One process, and the way to it and back. ``OSError`` where it cannot be started."""

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
                # A session of its own: a Ctrl-C is for the producer, which finishes what it reads.
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
        """Of the process."""
        return self._process.pid

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asyncio's; so are the next two."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by name

    def data_received(self, data: bytes) -> None:
        """Each answer is for the oldest question. The first message answers none: it tells that the process is up."""
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
        """Nothing more will come."""
        self.ended.set()
        for asked in self._asked:
            if not asked.done():
                asked.set_exception(exc or ConnectionError("it ended"))
        self._asked.clear()

    def ask(self, question: bytes) -> "asyncio.Future[bytes]":
        """The answer; or ``OSError`` where the process ends before."""
        asked: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        if self._transport is None or self.ended.is_set():
            asked.set_exception(ConnectionError("it ended"))
            return asked
        self._asked.append(asked)
        self._transport.writelines((SIZE.pack(len(question)), question))
        return asked

    def end(self) -> None:
        """At once: it holds nothing."""
        self._connecting.cancel()
        if self._transport is not None:
            self._transport.close()
        else:
            self._ours.close()
        self._process.kill()
        self._process.wait()


def _cores() -> int:
    """Those that this process may use, where the system tells."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
