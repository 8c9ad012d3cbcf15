"""Connections to one PostgreSQL, lent and taken back: what asyncpg's pool does, without what that costs.

Its way of lending makes a task, a timer, a shield and a proxy each time, which for a small statement is more than the
statement costs. Here lending a connection that is free and clean is taking it off a stack. The last one given back is
lent first, so what is not needed any more grows old at the other end, and is closed. After ``expire`` no connection is
lent again that was open before.
"""

import asyncio
from collections.abc import Awaitable, Callable

from listener.store.connection import OwnConnection

FREE_SECONDS = 300.0
"""So long a connection may stay open unused."""


class Lender:
    """Lends up to ``most`` connections at once, opened by ``connect`` when they are first needed."""

    def __init__(
        self, connect: Callable[[], Awaitable[OwnConnection]], *, most: int, timeout: float, reset_timeout: float
    ) -> None:
        self._connect = connect
        self._timeout = timeout
        self._reset_timeout = reset_timeout
        self._places = asyncio.Semaphore(most)
        self._free: list[OwnConnection] = []
        self._open: set[OwnConnection] = set()
        self._generation = 0

    async def lend(self) -> OwnConnection:
        """A connection, within the time limit, or ``TimeoutError``; or what opening one raises."""
        if self._free and not self._places.locked():
            await self._places.acquire()
            connection = self._some_free()
            if connection is not None:
                return connection
            self._places.release()
        async with asyncio.timeout(self._timeout):
            await self._places.acquire()
            try:
                return self._some_free() or await self._new()
            except BaseException:
                self._places.release()
                raise

    async def take_back(self, connection: OwnConnection) -> None:
        """Have it lent again, reset where that is needed; or closed, where it can be used no more."""
        try:
            if not connection.is_closed() and not connection.is_clean:
                await connection.reset(timeout=self._reset_timeout)
        except BaseException:
            self._end(connection)
            raise
        finally:
            self._put_back(connection)
            self._places.release()

    def expire(self) -> None:
        """Lend nothing that is open now, since the server has gone away."""
        self._generation += 1
        free, self._free = self._free, []
        for connection in free:
            self._end(connection)

    def end_all(self) -> None:
        """Cut every connection, those that are lent too."""
        self.expire()
        for connection in list(self._open):
            self._end(connection)

    async def _new(self) -> OwnConnection:
        connection = await self._connect()
        connection.generation = self._generation
        self._open.add(connection)
        return connection

    def _some_free(self) -> OwnConnection | None:
        while self._free:
            connection = self._free.pop()
            if not connection.is_closed():
                return connection
            self._end(connection)
        return None

    def _put_back(self, connection: OwnConnection) -> None:
        if connection.is_closed() or connection.generation != self._generation:
            self._end(connection)
            return
        now = asyncio.get_running_loop().time()
        connection.free_since = now
        self._free.append(connection)
        if self._free[0].free_since < now - FREE_SECONDS:
            self._end(self._free.pop(0))

    def _end(self, connection: OwnConnection) -> None:
        self._open.discard(connection)
        if not connection.is_closed():
            connection.terminate()
