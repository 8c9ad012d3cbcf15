"""A pool of connections to one PostgreSQL, which does the work of asyncpg's pool at a lower cost.

For each acquired connection, asyncpg's pool makes a task, a timer, a shield and a proxy. For a small statement that
costs more than the statement. Here, acquiring a free and clean connection takes it off a stack. The connection released
last is acquired first, so unneeded ones grow old at the other end. They are closed, except for a few that are nearly
always needed. If none is free, one more is opened, and the caller gets whichever comes first: opening one takes as long
as many statements. After ``expire``, no connection that was open before is handed out again.
"""

import asyncio
import functools
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, cast

from unlost.listener.fast.connection import OwnConnection, OwnTransaction
from unlost.listener.store.postgres.connections import FREE_SECONDS, ConnectionKind, PoolLimits


class ConnectionPool:
    """Hands out up to ``max_size`` connections, opened by ``connect``: ``kept_open`` at first, others when needed."""

    def __init__(self, connect: Callable[[], Awaitable[OwnConnection]], limits: PoolLimits) -> None:
        self._connect = connect
        self._max_size = limits.max_size
        self._min_size = limits.kept_open
        self._timeout = limits.timeout
        self._reset_timeout = limits.reset_timeout
        self._waiting: deque[asyncio.Future[OwnConnection]] = deque()
        self._free: list[OwnConnection] = []
        self._open: set[OwnConnection] = set()
        self._opening: set[asyncio.Future[OwnConnection]] = set()
        self._generation = 0

    async def acquire(self) -> OwnConnection:
        """Acquire a connection within the time limit. Raises ``TimeoutError``, or what opening a connection raises."""
        connection = self.acquire_free()
        if connection is not None:
            return connection
        waiter: asyncio.Future[OwnConnection] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        self._open_more(self._min_size - len(self._open))
        try:
            async with asyncio.timeout(self._timeout):
                return await waiter
        except BaseException:
            if waiter in self._waiting:
                self._waiting.remove(waiter)
            elif not waiter.cancelled() and waiter.exception() is None:
                self._hand_on(waiter.result())
            raise

    def acquire_free(self) -> OwnConnection | None:
        """Return a connection that is free now, if there is one."""
        while self._free:
            connection = self._free.pop()
            if not connection.is_closed():
                return connection
            self._end(connection)
        return None

    def may_use(self, connection: OwnConnection) -> bool:
        """Return whether this acquired connection would be handed out again."""
        return not connection.is_closed() and connection.generation == self._generation

    def release_if_clean(self, connection: OwnConnection) -> bool:
        """Release a connection if nothing must be done on it first; return whether that is so."""
        clean = connection.is_clean
        if clean:
            self._hand_on(connection)
        return clean

    async def release(self, connection: OwnConnection) -> None:
        """Release a connection: reset it if needed, or close it if it is unusable."""
        try:
            if not connection.is_closed() and not connection.is_clean:
                await connection.reset(timeout=self._reset_timeout)
        except BaseException:
            self._end(connection)
            raise
        finally:
            self._hand_on(connection)

    async def begin(self, connection: OwnConnection, longest_idle: int) -> OwnTransaction:
        """See ``Connections``."""
        return await connection.begin(longest_idle)

    async def end_begun(self, connection: OwnConnection) -> None:
        """See ``Connections``."""
        await connection.end_begun()

    async def expire(self) -> None:
        """Close all free connections and hand out none that is open now: the server has gone away."""
        self._generation += 1
        free, self._free = self._free, []
        for connection in free:
            self._end(connection)

    async def close(self) -> None:
        """Close every connection, also those in use.

        None is left half open: a server waits a minute for a login to complete, and drops no database meanwhile.
        """
        await self.expire()
        for connection in list(self._open):
            self._end(connection)
        for opening in self._opening:
            opening.cancel()
        await asyncio.gather(*self._opening, return_exceptions=True)

    def _open_more(self, at_least: int = 0) -> None:
        """Open as many as callers wait for, within the limit."""
        while len(self._opening) < min(max(len(self._waiting), at_least), self._max_size - len(self._open)):
            opening = asyncio.ensure_future(self._connect())
            self._opening.add(opening)
            opening.add_done_callback(functools.partial(self._opened, self._generation))

    def _opened(self, generation: int, opening: asyncio.Future[OwnConnection]) -> None:
        self._opening.discard(opening)
        if opening.cancelled():
            return
        if error := opening.exception():
            # A waiting caller may still get another connection that is being opened.
            if len(self._waiting) > len(self._opening) and (waiter := self._next_waiter()):
                waiter.set_exception(error)
            self._open_more()
            return
        connection = opening.result()
        connection.generation = generation
        self._open.add(connection)
        self._hand_on(connection)

    def _hand_on(self, connection: OwnConnection) -> None:
        """Give a connection to the caller that has waited longest, or push it onto the stack."""
        if connection.is_closed() or connection.generation != self._generation:
            self._end(connection)
            self._open_more()
            return
        if self._waiting and (waiter := self._next_waiter()):
            waiter.set_result(connection)
            return
        now = time.monotonic()
        connection.free_since = now
        self._free.append(connection)
        if len(self._open) > self._min_size and self._free[0].free_since < now - FREE_SECONDS:
            self._end(self._free.pop(0))

    def _next_waiter(self) -> asyncio.Future[OwnConnection] | None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                return waiter
        return None

    def _end(self, connection: OwnConnection) -> None:
        self._open.discard(connection)
        if not connection.is_closed():
            connection.terminate()


FAST = ConnectionKind(OwnConnection, cast("Any", ConnectionPool))  # it gets back only connections that it handed out
