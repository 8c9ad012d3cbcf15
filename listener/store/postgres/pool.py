"""Connections to one PostgreSQL, lent and taken back: what asyncpg's pool does, without what that costs.

Its way of lending makes a task, a timer, a shield and a proxy each time, which for a small statement is more than the
statement costs. Here lending a connection that is free and clean is taking it off a stack. The last one given back is
lent first, so what is not needed any more grows old at the other end, and is closed, but for a few that are nearly
always needed. Where none is free, one more is opened beside, and who waits gets whichever comes first: to open one
takes as long as many statements. After ``expire`` no connection is lent again that was open before.
"""

import asyncio
import functools
import time
from collections import deque
from collections.abc import Awaitable, Callable

from unlost.listener.store.postgres.connection import OwnConnection

FREE_SECONDS = 300.0
"""So long a connection may stay open unused."""


class ConnectionPool:
    """Lends up to ``most`` connections at once, opened by ``connect``: a few with the first, others when needed."""

    def __init__(
        self,
        connect: Callable[[], Awaitable[OwnConnection]],
        *,
        most: int,
        timeout: float,
        reset_timeout: float,
        few: int = 0,
    ) -> None:
        self._connect = connect
        self._most = most
        self._few = few
        self._timeout = timeout
        self._reset_timeout = reset_timeout
        self._waiting: deque[asyncio.Future[OwnConnection]] = deque()
        self._free: list[OwnConnection] = []
        self._open: set[OwnConnection] = set()
        self._opening: set[asyncio.Future[OwnConnection]] = set()
        self._generation = 0

    async def lend(self) -> OwnConnection:
        """A connection, within the time limit, or ``TimeoutError``; or what opening one raises."""
        connection = self.lend_free()
        if connection is not None:
            return connection
        waiter: asyncio.Future[OwnConnection] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        self._open_more(self._few - len(self._open))
        try:
            async with asyncio.timeout(self._timeout):
                return await waiter
        except BaseException:
            if waiter in self._waiting:
                self._waiting.remove(waiter)
            elif not waiter.cancelled() and waiter.exception() is None:
                self._hand_on(waiter.result())
            raise

    def lend_free(self) -> OwnConnection | None:
        """A connection that nobody need wait for, if there is one."""
        while self._free:
            connection = self._free.pop()
            if not connection.is_closed():
                return connection
            self._end(connection)
        return None

    def may_use(self, connection: OwnConnection) -> bool:
        """Whether this one, which is lent, would be lent again."""
        return not connection.is_closed() and connection.generation == self._generation

    def take_back_clean(self, connection: OwnConnection) -> bool:
        """Have it lent again, where nothing needs to be done before; whether that is so."""
        clean = connection.is_clean
        if clean:
            self._hand_on(connection)
        return clean

    async def take_back(self, connection: OwnConnection) -> None:
        """Have it lent again, reset where that is needed; or closed, where it can be used no more."""
        try:
            if not connection.is_closed() and not connection.is_clean:
                await connection.reset(timeout=self._reset_timeout)
        except BaseException:
            self._end(connection)
            raise
        finally:
            self._hand_on(connection)

    def expire(self) -> None:
        """Lend nothing that is open now, since the server has gone away."""
        self._generation += 1
        free, self._free = self._free, []
        for connection in free:
            self._end(connection)

    async def end_all(self) -> None:
        """Cut every connection, those that are lent too.

        None is left half open: a server waits a minute for a login to go on, and drops no database meanwhile.
        """
        self.expire()
        for connection in list(self._open):
            self._end(connection)
        for opening in self._opening:
            opening.cancel()
        await asyncio.gather(*self._opening, return_exceptions=True)

    def _open_more(self, at_least: int = 0) -> None:
        """As many as are waited for, where that is allowed."""
        while len(self._opening) < min(max(len(self._waiting), at_least), self._most - len(self._open)):
            opening = asyncio.ensure_future(self._connect())
            self._opening.add(opening)
            opening.add_done_callback(functools.partial(self._opened, self._generation))

    def _opened(self, generation: int, opening: asyncio.Future[OwnConnection]) -> None:
        self._opening.discard(opening)
        if opening.cancelled():
            return
        if error := opening.exception():
            # Who waits may yet get another that is being opened.
            if len(self._waiting) > len(self._opening) and (waiter := self._next_waiter()):
                waiter.set_exception(error)
            self._open_more()
            return
        connection = opening.result()
        connection.generation = generation
        self._open.add(connection)
        self._hand_on(connection)

    def _hand_on(self, connection: OwnConnection) -> None:
        """To who has waited longest, or onto the stack."""
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
        if len(self._open) > self._few and self._free[0].free_since < now - FREE_SECONDS:
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
