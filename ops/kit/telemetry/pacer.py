"""What peers send in large pieces is worked on in small ones, in turn, within a share of each turn of the event loop.

libuv reads up to 8 MiB from one connection before it looks at another, and a quarter of a mebibyte may hold thousands
of requests. So a connection that was sent much stops reading and waits here; whoever sends little, like a probe, does
not.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from uvicorn.protocols.http.flow_control import FlowControl

PIECE = 8 * 1024
SHARE = 0.002
"""Seconds in one turn of the loop, for all connections together. A probe is answered after three or four turns."""


class Paced(Protocol):
    """A connection, as seen from here."""

    def advance(self) -> bool:
        """Work on one piece; whether to come again."""


class Pacer:
    """One server's queue of connections that have more than a piece to work on."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._queue: deque[Paced] = deque()
        self._is_called = False

    def add(self, connection: Paced) -> None:
        """Have it advance, in a later turn of the loop; a connection is added once until ``advance`` says no."""
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
    """Uvicorn's, which reads only while the connection need not wait for its turn either."""

    def __init__(self, transport: asyncio.Transport, resumed: Callable[[], None]) -> None:
        super().__init__(transport)
        self._resumed = resumed
        self.waits = False

    @property
    def reads(self) -> bool:
        """Whether bytes of the peer are taken from the wire."""
        return not (self.read_paused or self.waits)

    def resume_reading(self) -> None:
        """The application wants more."""
        if self.read_paused:
            self.read_paused = False
            self._read_again()
            self._resumed()

    def wait(self) -> None:
        """Read nothing until ``go_on``."""
        self.waits = True
        self._transport.pause_reading()

    def go_on(self) -> None:
        """Read, if the application wants to."""
        self.waits = False
        self._read_again()

    def _read_again(self) -> None:
        if self.reads:
            self._transport.resume_reading()
