"""Connections to Redis, kept between calls: redis-py's pool and streams cost more than the call itself.

The library opens a connection (names, TLS, passwords, database). From then on we own it: we write a command, and its
answer ends the call that waits. A connection is taken from the library's pool when none is free. When anything fails on
it, it is closed and goes back. All free connections are closed with it, since whatever ended one has most likely ended
all. So no call gets a dead one a second time.

No call waits without a limit. Each call has its own deadline, and each connection has one timer. When the timer fires,
it looks at the deadline of the call under way.
"""

import asyncio
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar, cast

import hiredis
from redis._parsers.base import BaseParser
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError, InvalidResponse, ResponseError  # noqa: A004  the library's name

from unlost.listener.claims.redis.errors import LIBRARY_ERRORS, is_reset
from unlost.listener.claims.redis.resp import Lengths

T = TypeVar("T")
NOTHING = object()
FEW = 3
"""Nearly always needed: to claim, to settle, and to renew leases."""
CLOCK_STEP = 0.001
"""No event loop's clock is finer than this."""


class RedisConnection(asyncio.Protocol):
    """One open connection, with one call at a time. After a call without an answer it cannot be used again."""

    def __init__(self, connection: AbstractConnection) -> None:
        self.connection = connection
        self.transport: asyncio.Transport = cast("Any", connection)._writer.transport  # noqa: SLF001  there is no public way
        self._before = self.transport.get_protocol()
        self._replies = hiredis.Reader(
            protocolError=InvalidResponse, replyError=_error, notEnoughData=cast("Any", NOTHING)
        )
        self._lengths = Lengths()
        self._loop = asyncio.get_running_loop()
        self._answer: asyncio.Future[Any] | None = None
        self._until = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._strikes_at = 0.0
        self.transport.set_protocol(self)

    def ask(self, command: bytes, until: float) -> asyncio.Future[Any]:
        """Send this command. The answer may be an error reply; ``TimeoutError`` if none comes in time."""
        if self._answer is not None:
            raise RuntimeError("somebody else waits for an answer on this connection")
        if self.transport.is_closing():
            raise ConnectionError("the connection was closed by the server")
        try:
            self.transport.write(command)
        except RuntimeError as error:  # uvloop raises it for a connection that was reset
            if not is_reset(error):
                raise
            raise ConnectionError(str(error)) from error
        self._answer = answer = self._loop.create_future()
        self._until = until
        if self._timer is None or until < self._strikes_at:
            self._strike_at(until)
        return answer

    def close(self) -> None:
        """Abort the connection. Nobody waits any more for what was sent and not answered."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.transport.abort()

    def _strike_at(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._strikes_at = when
        self._timer = self._loop.call_at(when, self._strike)

    def _strike(self) -> None:
        self._timer = None
        if self._answer is None or self._answer.done():
            return
        if self._loop.time() + CLOCK_STEP < self._until:  # the timer was set for an earlier call
            self._strike_at(self._until)
        else:
            self._fail(TimeoutError("no answer in time"))

    def _fail(self, error: Exception) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)

    # -- called by the event loop ---------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """See ``asyncio.Protocol``."""
        try:
            self._lengths.check(data)
            self._replies.feed(data)
            while (reply := self._replies.gets()) is not NOTHING:
                self._lengths.answered()
                if isinstance(reply, hiredis.PushNotification):
                    continue  # a push message: sent unasked, if the address asks for RESP 3
                answer, self._answer = self._answer, None
                if answer is not None and not answer.done():
                    answer.set_result(reply)
                else:  # nobody waits for it: the next call would take it for its own answer
                    self.transport.abort()
        except InvalidResponse as error:
            self._fail(error)
            self.transport.abort()
        except Exception as error:  # noqa: BLE001  a border: hiredis may raise anything for what a server sends
            self._fail(InvalidResponse(f"{type(error).__name__}: {error}"))
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """See ``asyncio.Protocol``."""
        self._before.connection_lost(exc)  # the library waits for its end when it closes its pool
        self._fail(ConnectionError(str(exc) if exc else "the connection was closed by the server"))


class RedisPool:
    """Calls one Redis, on one connection for each call under way, up to the pool's limit."""

    def __init__(self, client: Redis, *, timeout: float) -> None:
        """Make a pool. A call as a whole takes no longer than ``timeout`` seconds."""
        self._pool = client.connection_pool
        self._most = self._pool.max_connections
        self._timeout = timeout
        self._free: list[RedisConnection] = []
        self._open = 0
        self._waiting = 0
        self._freed = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def ask(self, read: Callable[[object], T], *command: bytes | str | int) -> T:
        """Send a command and return what ``read`` makes of its answer.

        Raises one of the library's errors, or ``TimeoutError``. If ``read`` refuses the answer with
        ``InvalidResponse``, nothing that arrives later on this connection is believed either.
        """
        if self._loop is None:
            self._loop = asyncio.get_running_loop()  # a system call on Python 3.11, so made once
        until = self._loop.time() + self._timeout
        connection = self._free.pop() if self._free else await self._one_more(until)
        try:
            packed = hiredis.pack_command(command)  # type: ignore[arg-type]  # it takes any number of arguments
            reply: object = await connection.ask(packed, until)
            answer = None if isinstance(reply, Exception) else read(reply)
        except BaseException:
            await self._let_go(connection)
            raise
        if isinstance(reply, Exception):
            await self._refused(connection, reply)
        self._free.append(connection)
        if self._waiting:
            self._freed.set()
        return cast("T", answer)

    async def open_ahead(self) -> None:
        """Open a few connections before a call waits for one. Raises as ``ask`` does."""
        while self._open < min(FEW, self._most):
            async with asyncio.timeout(self._timeout):
                self._put_back(await self._opened())

    async def _one_more(self, until: float) -> RedisConnection:
        """Return a new connection or, at the pool's limit, the first one that is put back."""
        self._waiting += 1
        try:
            async with asyncio.timeout_at(until):
                while not self._free:
                    if self._open < self._most:
                        return await self._opened()
                    self._freed.clear()
                    await self._freed.wait()
                return self._free.pop()
        finally:
            self._waiting -= 1

    async def _opened(self) -> RedisConnection:
        self._open += 1
        try:
            return RedisConnection(cast("AbstractConnection", await self._pool.get_connection()))  # type: ignore[no-untyped-call]
        except BaseException as error:
            self._open -= 1
            self._freed.set()
            if isinstance(error, RuntimeError) and is_reset(error):
                raise ConnectionError(str(error)) from error
            if isinstance(error, Exception) and not isinstance(error, (*LIBRARY_ERRORS, RuntimeError)):
                # The library's error for a wrong answer to AUTH or SELECT. It means no more than a lost connection.
                raise InvalidResponse(f"connecting: {type(error).__name__}: {error}") from error
            raise

    def _put_back(self, connection: RedisConnection) -> None:
        self._free.append(connection)
        self._freed.set()

    async def _refused(self, connection: RedisConnection, error: Exception) -> NoReturn:
        """Raise the server's error. A faulty command does not make the connection unusable."""
        if isinstance(error, ResponseError):
            self._put_back(connection)
        else:
            await self._let_go(connection)
        raise error

    async def _let_go(self, connection: RedisConnection) -> None:
        ended, self._free = [connection, *self._free], []
        self._open -= len(ended)
        self._freed.set()
        for one in ended:
            one.close()
            await one.connection.disconnect(nowait=True)
            await self._pool.release(one.connection)


def _error(text: str) -> Exception:
    """Return the library's exception for an error reply."""
    return cast("Exception", BaseParser.parse_error(text))  # type: ignore[no-untyped-call]
