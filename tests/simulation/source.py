"""A simulated source: a journal and the connections that read it.

A source that can resume sends cursors in its frames and in the handshake, like our producer. One that cannot resume
sends to the clients connected at the moment, and keeps nothing. Retention removes the oldest events. A client that has
not read them is disconnected, and learns of the gap when it comes back. The journal may be set back to a backup, or
lost. Events accepted then have the same numbers as the lost ones, in another timeline.
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

from tests.simulation.hooks import Hooks
from tests.simulation.journal import Copy, Entry, Journal
from tests.simulation.partitioned import asked_share, message_of
from tests.simulation.world import AFTERLIFE, Process, World
from unlost.listener.source.stream.envelope import split
from unlost.listener.source.stream.partitions import partition_of
from unlost.listener.source.websocket.connection import WebSocketOptions
from unlost.producer.journal.timelines import Start
from unlost.producer.stream.partitions import Share

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
        self.sent_up_to = 0
        self.received = 0
        self.share: Share | None = None
        """The partitions of which it is sent the events."""
        self._source = source
        self._frames: deque[tuple[int, Entry]] = deque()
        self._reader: asyncio.Future[None] | None = None

    def arrive(self, number: int, entry: Entry) -> None:
        if self.close_code is None:
            self.received += len(entry.frame)
            self._frames.append((number, entry))
            if self.carries(entry):
                self._source.hooks.frame_arrived(self.process, entry.serial)
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

    async def take_rest(self, most: int, size: int) -> list[bytes]:
        return self.take_now(most, size)

    def take_now(self, most: int, size: int) -> list[bytes]:
        taken: list[bytes] = []
        while self._frames and (not taken or (len(taken) < most and size > 0)):
            self.read_up_to, entry = self._frames.popleft()
            if self.carries(entry):
                self._source.hooks.frame_read(self.process, entry.serial)
            taken.append(self._message(self.read_up_to, entry))
            size -= len(entry.frame)
        return taken

    def carries(self, entry: Entry) -> bool:
        """Whether this client is sent an entry."""
        return self.share is None or partition_of(entry.body) in self.share.partitions

    def _message(self, number: int, entry: Entry) -> bytes:
        if self.share is None:
            return entry.frame
        return message_of(self.share, entry.cursor[: entry.cursor.rfind(".") + 1], number, entry.body)

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
    """The producer."""

    def __init__(self, world: World, hooks: Hooks, *, resumes: bool) -> None:
        self.world = world
        self.hooks = hooks
        self.resumes = resumes
        self.state = "up"
        self.unreachable_for = ""
        """The listener that never reaches it."""
        self.journal = Journal()
        self._accepted = 0
        self._connections: list[SimulatedConnection] = []
        self._begin()

    def _begin(self) -> None:
        self.journal.begin(self.world.now)
        self.hooks.timeline_begins(self.journal.timelines.stem)

    def publish(self, frame: bytes) -> bytes:
        """Accept one frame, and return it as it is sent. From here on the law holds for it."""
        number = self.journal.newest + 1
        if self.resumes:
            frame = b'%b,"cursor":"%b"}' % (frame[:-1], self.journal.timelines.cursor(number).encode())
        self._accepted += 1
        body, cursor = split([frame]).bodies[0], self.journal.timelines.cursor(number)
        self.journal.entries.append(Entry(self._accepted, frame, body, cursor))
        for connection in self._connections:
            self._send(connection, number)
        return frame

    def cut(self) -> None:
        """End all connections. Readers come back."""
        for connection in self._connections:
            connection.abort()
        self._connections.clear()

    def retain_nothing(self) -> None:
        """Retention removes everything accepted until now."""
        self.journal.removed = self.journal.newest
        self.hooks.journal_retired()
        for connection in self._connections:
            if connection.read_up_to < self.journal.removed:
                connection.abort()
        self._connections = [one for one in self._connections if one.close_code is None]

    def down(self) -> None:
        self.state = "down"
        self.cut()

    def up(self) -> None:
        """A producer starts, unless one runs."""
        if self.state != "up":
            self.state = "up"
            self._begin()

    def restore(self, copy: Copy | None) -> None:
        """Stop the producer and put a copy of the journal in place, or lose the journal if there is none."""
        self.down()
        if copy is None:
            self.journal.wipe()
        else:
            self.journal.restore(copy)
        self.hooks.journal_restored(self.journal.newest, self.journal.removed)

    def forget(self, process: Process) -> None:
        """The connection of a killed process is gone."""
        self._connections = [c for c in self._connections if c.process is not process]

    def connect(self, process: Process) -> "Callable[..., AbstractAsyncContextManager[Any]]":
        """The function by which a reader of this process opens a connection."""

        @contextlib.asynccontextmanager
        async def opened(url: str, options: WebSocketOptions) -> AsyncIterator[SimulatedConnection]:
            await self._pause(process)
            if self.state != "up" or process.name == self.unreachable_for:
                raise ConnectionRefusedError("the source is down")
            after = parse_qs(urlsplit(url).query).get("after")
            connection = self._accept(process, after[0] if after and self.resumes else None, asked_share(url))
            try:
                yield connection
            finally:
                connection.abort()
                if connection in self._connections:
                    self._connections.remove(connection)

        return opened

    def _accept(self, process: Process, after: str | None, share: Share | None) -> SimulatedConnection:
        journal, headers = self.journal, Headers()
        start = Start(journal.newest, is_known=True) if after is None else journal.start_after(after)
        if self.resumes:
            headers["unlost-oldest"] = journal.timelines.cursor(journal.removed)
            headers["unlost-cursor"] = journal.timelines.cursor(start.number)
        if after is not None:
            self.hooks.reads_after(process, after)
            if not start.is_known:
                headers["unlost-gap"] = after
        if share is not None:
            headers["unlost-format"] = "partitions"
        connection = SimulatedConnection(process, headers, self)
        connection.share = share
        connection.read_up_to = connection.sent_up_to = start.number
        self._connections.append(connection)
        self.world.note(
            process.name, f"source connected after {after}: {'' if start.is_known else 'GAP, '}{start.number}"
        )
        for number in range(start.number + 1, journal.newest + 1):
            self._send(connection, number)
        return connection

    def _send(self, connection: SimulatedConnection, number: int) -> None:
        if number <= connection.sent_up_to:
            return
        connection.sent_up_to = number
        delay = LATENCY * (0.3 + 4.0 * self.world.rng.random() ** 3)
        connection.last_arrival = max(connection.last_arrival + 1e-7, self.world.now + delay)
        entry = self.journal.entries[number - 1]
        self.world.later(connection.last_arrival - self.world.now, self._arrive, connection, number, entry)

    def _arrive(self, connection: SimulatedConnection, number: int, entry: Entry) -> None:
        if connection.close_code is None and connection.process.alive:
            connection.arrive(number, entry)

    async def _pause(self, process: Process) -> None:
        if process.state is AFTERLIFE:
            raise asyncio.CancelledError
        await asyncio.sleep(LATENCY * (1 + self.world.rng.random()))
