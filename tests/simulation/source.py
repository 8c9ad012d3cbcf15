"""A simulated source: a journal and the connections that read it.

One that can resume tells cursors in its frames and in the handshake, like our producer. One that cannot
sends to whoever is connected at the moment, and keeps nothing. Retention takes the oldest events away: who
has not read them is sent off, and learns of the gap when it comes back.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any
from urllib.parse import parse_qs, urlsplit

from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosedError

from listener.source.connection import SourceOptions
from tests.simulation.world import AFTERLIFE, Process, World

LATENCY = 0.002


class SimulatedConnection:
    """One connection, as ``Reader`` uses it."""

    def __init__(self, process: Process, headers: Headers, source: "SimulatedSource") -> None:
        self.process = process
        self.response = self
        self.headers = headers
        self.close_code: int | None = None
        self.transport: Any = self
        self.last_arrival = 0.0
        self.read_up_to = 0
        self.received = 0
        self._source = source
        self._frames: deque[tuple[int, bytes]] = deque()
        self._reader: asyncio.Future[None] | None = None

    def arrive(self, number: int, frame: bytes) -> None:
        if self.close_code is None:
            self.received += len(frame)
            self._frames.append((number, frame))
            self._source.on_arrived(self.process, number)
            self._tell()

    def abort(self) -> None:
        self.close_code = 1006
        self._tell()

    async def take(self, most: int, size: int) -> list[bytes]:
        while not self._frames:
            if self.close_code is not None:
                raise ConnectionClosedError(None, None)
            self._reader = self.process.create_future()
            await self._reader
        return self.take_now(most, size)

    def take_now(self, most: int, size: int) -> list[bytes]:
        taken: list[bytes] = []
        while self._frames and (not taken or (len(taken) < most and size > 0)):
            number, frame = self._frames.popleft()
            self.read_up_to = number
            self._source.on_received(self.process, number)
            taken.append(frame)
            size -= len(frame)
        return taken

    async def send(self, message: str) -> None:
        if self.close_code is not None:
            raise ConnectionClosedError(None, None)

    async def ping(self) -> Awaitable[float]:
        pong = self.process.create_future()
        if self.close_code is None:
            pong.set_result(0.0)
        return pong

    def _tell(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)


class SimulatedSource:
    """The journal."""

    def __init__(
        self,
        world: World,
        *,
        resumes: bool,
        on_arrived: Callable[[Process, int], None],
        on_received: Callable[[Process, int], None],
        on_gap: Callable[[Process], None] = lambda _: None,
    ) -> None:
        self.world = world
        self.resumes = resumes
        self.state = "up"
        self.journal: list[bytes] = []
        self.removed = 0
        """Up to which number retention has taken events away."""
        self.on_arrived = on_arrived
        self.on_received = on_received
        self._on_gap = on_gap
        self._connections: list[SimulatedConnection] = []

    def publish(self, frame: bytes) -> bytes:
        """Accept one frame, and return it as it is sent: from here on the law holds for it."""
        number = len(self.journal) + 1
        if self.resumes:
            frame = frame[:-1] + b',"cursor":"j-%d"}' % number
        self.journal.append(frame)
        for connection in self._connections:
            self._send(connection, number)
        return frame

    def cut(self) -> None:
        """End all connections; readers come back."""
        for connection in self._connections:
            connection.abort()
        self._connections.clear()

    def retain_nothing(self) -> None:
        """Retention removes all that was accepted until now."""
        self.removed = len(self.journal)
        for connection in self._connections:
            if connection.read_up_to < self.removed:
                connection.abort()
        self._connections = [one for one in self._connections if one.close_code is None]

    def down(self) -> None:
        self.state = "down"
        self.cut()

    def up(self) -> None:
        self.state = "up"

    def forget(self, process: Process) -> None:
        """Its connection is gone: it was killed."""
        self._connections = [c for c in self._connections if c.process is not process]

    def connect(self, process: Process) -> "Callable[..., AbstractAsyncContextManager[Any]]":
        """How a reader of this process opens a connection."""

        @contextlib.asynccontextmanager
        async def opened(url: str, options: SourceOptions) -> AsyncIterator[SimulatedConnection]:
            await self._pause(process)
            if self.state != "up":
                raise ConnectionRefusedError("the source is down")
            after = parse_qs(urlsplit(url).query).get("after")
            connection = self._accept(process, int(after[0].removeprefix("j-")) if after else None)
            try:
                yield connection
            finally:
                connection.abort()
                if connection in self._connections:
                    self._connections.remove(connection)

        return opened

    def _accept(self, process: Process, after: int | None) -> SimulatedConnection:
        here = len(self.journal)
        headers = Headers()
        if self.resumes:
            headers["unlost-oldest"], headers["unlost-cursor"] = f"j-{self.removed}", f"j-{here}"
        if after is not None and after < self.removed:
            headers["unlost-gap"] = f"j-{after}"
            self._on_gap(process)
            after = self.removed
        connection = SimulatedConnection(process, headers, self)
        connection.read_up_to = here if after is None else after
        self._connections.append(connection)
        self.world.note(process.name, f"source connected after {after}")
        for number in range((here if after is None else after) + 1, here + 1):
            self._send(connection, number)
        return connection

    def _send(self, connection: SimulatedConnection, number: int) -> None:
        delay = LATENCY * (0.3 + 4.0 * self.world.dice.random() ** 3)
        connection.last_arrival = max(connection.last_arrival + 1e-7, self.world.now + delay)
        self.world.later(connection.last_arrival - self.world.now, self._arrive, connection, number)

    def _arrive(self, connection: SimulatedConnection, number: int) -> None:
        if connection.close_code is None and connection.process.alive:
            connection.arrive(number, self.journal[number - 1])

    async def _pause(self, process: Process) -> None:
        if process.state is AFTERLIFE:
            raise asyncio.CancelledError
        await asyncio.sleep(LATENCY * (1 + self.world.dice.random()))
