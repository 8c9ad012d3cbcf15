"""A simulated broker: it gives each message to one listener, and again to any, unless it is acknowledged in time.

It extends nothing: what is held for long comes again, too. So listeners hold the same message at once.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from tests.simulation.hooks import Hooks
from tests.simulation.source import LATENCY
from tests.simulation.world import AFTERLIFE, Process, World
from unlost.listener.ports.source import Batch, Loss, Opened, Receipt, SourceEnded, Taken

ACK_WAIT = 1.5
"""Shorter than a lease: messages come again while their events are claimed."""


class SimulatedBroker:
    """The messages of one queue."""

    def __init__(self, world: World, hooks: Hooks) -> None:
        self.world = world
        self.hooks = hooks
        self.state = "up"
        self._frames: list[bytes] = []
        self._ready: deque[int] = deque()
        self._deliveries: dict[int, int] = {}
        """How often each unacknowledged message was given to a listener."""
        self._sessions: list[BrokerSession] = []

    @property
    def unacknowledged(self) -> bool:
        """Whether a message is left."""
        return bool(self._ready or self._deliveries)

    def publish(self, frame: bytes) -> bytes:
        """Accept a message. From here on the law holds for it."""
        self._frames.append(frame)
        self._ready.append(len(self._frames))
        self._wake()
        return frame

    def give(self, process: Process, most: int) -> list[tuple[int, bytes]]:
        """Give the next messages to a listener."""
        given: list[tuple[int, bytes]] = []
        while self._ready and len(given) < most:
            serial = self._ready.popleft()
            number = self._deliveries[serial] = self._deliveries.get(serial, 0) + 1
            self.world.later(ACK_WAIT, self._give_again, serial, number)
            self.hooks.frame_arrived(process, serial)
            given.append((serial, self._frames[serial - 1]))
        return given

    def acknowledge(self, process: Process, serial: int) -> None:
        """Forget a message. Acknowledging it again does nothing."""
        if self._deliveries.pop(serial, None) is not None:
            if serial in self._ready:
                self._ready.remove(serial)
            self.hooks.acknowledged(process, serial)

    def cut(self) -> None:
        """End all sessions. Readers come back."""
        for session in self._sessions:
            session.abort()
        self._sessions.clear()

    def down(self) -> None:
        self.state = "down"
        self.cut()

    def up(self) -> None:
        self.state = "up"

    def forget(self, process: Process) -> None:
        """The session of a killed process is gone. Its messages come again later."""
        self._sessions = [one for one in self._sessions if one.process is not process]

    @contextlib.asynccontextmanager
    async def opened(self, process: Process) -> AsyncIterator["BrokerSession"]:
        """A session of this process."""
        if process.state is AFTERLIFE:
            raise asyncio.CancelledError
        await asyncio.sleep(LATENCY * (1 + self.world.rng.random()))
        if self.state != "up":
            raise SourceEnded(Loss("the broker is down"))
        session = BrokerSession(process, self)
        self._sessions.append(session)
        try:
            yield session
        finally:
            session.abort()
            if session in self._sessions:
                self._sessions.remove(session)

    def _give_again(self, serial: int, number: int) -> None:
        if self._deliveries.get(serial) == number:
            self._ready.append(serial)
            self._wake()

    def _wake(self) -> None:
        for session in self._sessions:
            session.wake()


class BrokerSession:
    """A ``Session``."""

    opening = Opened()

    def __init__(self, process: Process, broker: SimulatedBroker) -> None:
        self.process = process
        self._broker = broker
        self._ended = False
        self._waiting: asyncio.Future[None] | None = None

    def wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    async def give_back(self) -> None:
        """Nothing waits here: each call gets its messages from the broker itself."""

    def abort(self) -> None:
        self._ended = True
        self.wake()

    async def take(self, most: int, size: int) -> Taken:
        while True:
            await asyncio.sleep(LATENCY * (0.3 + self._broker.world.rng.random()))
            if self._ended:
                raise SourceEnded(Loss("the session ended"))
            if given := self._broker.give(self.process, most):
                receipts = [(1, serial) for serial, _ in given]
                return Batch([frame for _, frame in given], [None] * len(given), receipts)
            self._waiting = self.process.create_future()
            await self._waiting

    async def take_rest(self, most: int, size: int) -> Taken | None:
        return None

    async def run(self, paused: Callable[[], bool]) -> None:
        await self.process.create_future()

    async def settled(self, receipts: Sequence[Receipt]) -> None:
        if self._ended:
            raise SourceEnded(Loss("the session ended"))
        for serial in receipts:
            assert isinstance(serial, int)
            self._broker.acknowledge(self.process, serial)


class BrokerSource:
    """A ``Source``, as one process uses it."""

    name = "broker"
    shared = True
    partitioned = False
    resumes = True

    def __init__(self, process: Process, broker: SimulatedBroker) -> None:
        self._process = process
        self._broker = broker

    def open(
        self, cursor: Callable[[], Awaitable[str | None]]
    ) -> contextlib.AbstractAsyncContextManager[BrokerSession]:
        return self._broker.opened(self._process)
