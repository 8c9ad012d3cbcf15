"""Parses large input in small pieces, connection by connection, within a time limit per turn of the event loop.

libuv reads up to 8 MiB from one connection before it serves another, and 256 KiB may hold thousands of requests. So a
connection with much input stops reading and waits here for its turn. A connection with little input, such as a probe,
does not wait.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from uvicorn.protocols.http.flow_control import FlowControl

PIECE = 8 * 1024
SHARE = 0.002
"""Seconds per turn of the loop, for all connections together. A probe needs three or four turns to be answered."""


class Paced(Protocol):
    """The part of a connection that the pacer uses."""

    def advance(self) -> bool:
        """Parse one piece; return whether there is another one."""


class Pacer:
    """One server's queue of connections that have more than one piece to parse."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._queue: deque[Paced] = deque()
        self._is_called = False

    def add(self, connection: Paced) -> None:
        """Let it advance in a later turn of the loop. Do not add it again before ``advance`` has returned False."""
        self._queue.append(connection)
        self._call()

    def _call(self) -> None:
        if not self._is_called:
            self._is_called = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self._is_called = False
        until = self._clock() + SHARE
        while self._queue and self._clock() < until:
            connection = self._queue.popleft()
            while wants_more := connection.advance():
                if self._clock() >= until:
                    break
            if wants_more:
                self._queue.append(connection)
        if self._queue:
            self._call()


class PacedFlow(FlowControl):
    """Uvicorn's flow control, which also pauses reading while the connection waits for its turn."""

    def __init__(self, transport: asyncio.Transport, resumed: Callable[[], None]) -> None:
        super().__init__(transport)
        self._resumed = resumed
        self.waits = False

    @property
    def reads(self) -> bool:
        """Whether the transport reads from the peer."""
        return not (self.read_paused or self.waits)

    def resume_reading(self) -> None:
        """Read again, because the application wants more input."""
        if self.read_paused:
            self.read_paused = False
            self._read_again()
            self._resumed()

    def wait(self) -> None:
        """Read nothing until ``go_on``."""
        self.waits = True
        self._transport.pause_reading()

    def go_on(self) -> None:
        """End the wait; read again unless the application has paused reading."""
        self.waits = False
        self._read_again()

    def _read_again(self) -> None:
        if self.reads:
            self._transport.resume_reading()
