"""Moves a feed to a new connection: opens the new one first, and then leaves the old one.

Moves never overlap, and are ``MOVE_SECONDS`` apart, since a feed may ask for a new connection on each one. If the old
connection ends before the new one is open, the move is given up. The reader connects again after its cursor, as after
any loss. Missed events are a declared gap if the feed does not resume.

A feed that resumes by a cursor is asked on the new connection to continue after the last cursor that was read. An old
connection proves by its answer that it was served when the new one was open. Messages and a close frame prove nothing:
they may have been on the way since before. Without that answer, a gap is declared too, unless the feed repeats what the
old one did not deliver.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from unlost.listener.source.feed.connection import FeedConnection
from unlost.listener.source.feed.hook import Again

LINGER_SECONDS = 5.0
"""How long an old connection is kept after the new one is open, unless the new one delivers first."""
ACK_SECONDS = 30.0
"""The same for a connection on which acknowledgements must still be sent."""
ANSWER_SECONDS = 10.0
"""How long an old connection may take to answer, once the new one is open."""
MOVE_ATTEMPTS = 5
MOVE_SECONDS = 1.0


class Moves:
    """The moves of one session.

    ``connect`` returns nothing if no connection could be opened. ``ended_early`` is called with the last sign of
    life of an old connection that may have ended before the new one was open, and with the new one.
    """

    def __init__(
        self,
        connections: Sequence[FeedConnection],
        connect: Callable[[Again], Awaitable[FeedConnection | None]],
        changed: Callable[[], None],
        ended_early: Callable[[float, FeedConnection], None],
    ) -> None:
        """Make it. ``connections``: the connections that are open, the newest last."""
        self._connections = connections
        self._connect = connect
        self._changed = changed
        self._ended_early = ended_early
        self._task: asyncio.Task[None] | None = None
        self._old: FeedConnection | None = None
        """The connection to be left, until the new one is open."""
        self._wish: tuple[FeedConnection, Again] | None = None
        self._moved_at = float("-inf")
        self._ended = False

    @property
    def active(self) -> bool:
        """Whether a move is in progress."""
        return self._task is not None

    def move(self, connection: FeedConnection, again: Again) -> None:
        """Begin a move, unless one is in progress. A request of the newest connection is carried out after that."""
        if self._ended or connection not in self._connections:
            return
        if self._task is None:
            self._old = connection
            self._task = asyncio.create_task(self._move(connection, again), name="feed moves")
        elif connection is not self._old and connection is self._connections[-1]:
            self._wish = connection, again

    def left(self, connection: FeedConnection) -> None:
        """Note that a connection has ended."""
        if connection is self._old and self._task is not None:
            self._task.cancel()

    def end(self) -> list[asyncio.Task[None]]:
        """Move no more; return what was cancelled."""
        self._ended = True
        if self._task is None:
            return []
        self._task.cancel()
        return [self._task]

    async def _move(self, old: FeedConnection, again: Again) -> None:
        clock = asyncio.get_running_loop().time
        try:
            await asyncio.sleep(self._moved_at + MOVE_SECONDS - clock())
            new = await self._open(again)
            self._old, self._moved_at = None, clock()
            if new is not None:
                await self._leave(old, new)
        finally:
            self._task = self._old = None
            wish, self._wish = self._wish, None
            if wish is not None:
                self.move(*wish)
            self._changed()

    async def _open(self, again: Again) -> FeedConnection | None:
        for attempt in range(MOVE_ATTEMPTS):
            if (connection := await self._connect(again)) is not None:
                return connection
            await asyncio.sleep(0.1 * 2**attempt)
        return None

    async def _leave(self, old: FeedConnection, new: FeedConnection) -> None:
        """Keep the old connection until the new one delivers, and all that came by it is acknowledged."""
        if not await _answers(old):
            self._ended_early(old.heard_at, new)
        loop = asyncio.get_running_loop()
        linger, last = loop.time() + LINGER_SECONDS, loop.time() + ACK_SECONDS
        while old in self._connections and loop.time() < last:
            waits = not new.delivered and loop.time() < linger
            if not waits and not old.unsettled:
                break
            await asyncio.sleep(0.05)
        old.link.abort()


async def _answers(connection: FeedConnection) -> bool:
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            return await connection.link.answers()
    except TimeoutError:
        return False
