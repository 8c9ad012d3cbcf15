"""Calls to one Redis, on redis-py's own connections and pool. No call waits without a limit.

redis-py opens connections (names, TLS, passwords, database), checks one before each use, and disconnects one whose call
fails or is cancelled. So no answer is taken for that of another call. This module adds four things:

- One time limit covers the call as a whole.
- An answer that ``read`` refuses ends its connection.
- A failure ends all idle connections, since most likely all are dead.
- Any error that the library raises becomes one of its own errors.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import TypeVar

import hiredis
from redis.asyncio import Redis
from redis.exceptions import ConnectionError, InvalidResponse, ResponseError  # noqa: A004  the library's name

from unlost.listener.claims.redis.errors import LIBRARY_ERRORS, is_reset, may_try_again

T = TypeVar("T")
FEW = 3
"""Connections that are nearly always needed: to claim, to settle, and to renew leases."""


class RedisCalls:
    """Calls one Redis. Each call has a connection of its own, up to the pool's limit."""

    def __init__(self, client: Redis, *, timeout: float) -> None:
        """A whole call takes no longer than ``timeout`` seconds."""
        self._client = client
        self._pool = client.connection_pool
        self._timeout = timeout
        self._retired = False

    async def ask(self, read: Callable[[object], T], *command: bytes | str | int) -> T:
        """Send a command and return what ``read`` makes of its answer.

        Raises one of the library's errors, or ``TimeoutError``. If ``read`` refuses the answer with
        ``InvalidResponse``, nothing that arrives later on this connection is believed either.
        """
        packed = hiredis.pack_command(command)  # type: ignore[arg-type]  # it takes any number of arguments
        try:
            # Not redis-py's limits: on Python 3.11 they may swallow a cancellation, and their sum has no bound.
            async with asyncio.timeout(self._timeout):
                return await self._call(read, packed)
        except ResponseError:  # the server answered: the connection is usable
            raise
        except LIBRARY_ERRORS:
            await self._drop_idle()
            raise

    async def ask_again(self, read: Callable[[object], T], *command: bytes | str | int) -> T:
        """Ask, and once more if the connection failed: it may have died long ago."""
        try:
            return await self.ask(read, *command)
        except LIBRARY_ERRORS as error:
            if not may_try_again(error):
                raise
        return await self.ask(read, *command)

    async def retire(self) -> None:
        """Disconnect: idle connections now, the others when their calls end."""
        self._retired = True
        await self._drop_idle()

    async def close(self) -> None:
        """Close all connections."""
        with contextlib.suppress(*LIBRARY_ERRORS):  # a silent server does not close TLS
            await self._client.aclose()

    async def open_ahead(self) -> None:
        """Open a few connections before a call waits for one. Raises as ``ask`` does."""
        _, (in_use, _) = self._pool.get_connection_count()
        opened = []
        try:
            async with asyncio.timeout(self._timeout):
                for _ in range(min(FEW, self._pool.max_connections) - in_use):
                    with _library_errors():
                        opened.append(await self._pool.get_connection())  # type: ignore[no-untyped-call]
        finally:
            for connection in opened:
                await self._pool.release(connection)

    async def _call(self, read: Callable[[object], T], packed: bytes) -> T:
        with _library_errors():
            connection = await self._pool.get_connection()  # type: ignore[no-untyped-call]
        try:
            with _library_errors():
                # hiredis packs a thousand arguments many times faster than the connection's ``send_command``.
                await connection.send_packed_command(packed)
                reply = await connection.read_response()
            return read(reply)
        except InvalidResponse:
            await connection.disconnect(nowait=True)
            raise
        finally:
            await self._pool.release(connection)
            if self._retired:
                await self._drop_idle()

    async def _drop_idle(self) -> None:
        """Disconnect all idle connections.

        The pool's own ``disconnect`` would wait for a silent server to close TLS.
        """
        (idle, _), _ = self._pool.get_connection_count()
        for connection in [self._pool.get_available_connection() for _ in range(idle)]:  # type: ignore[no-untyped-call]
            try:
                await connection.disconnect(nowait=True)
            finally:
                await self._pool.release(connection)


@contextlib.contextmanager
def _library_errors() -> Iterator[None]:
    """Turn all that a server, or a lost connection, can make the library raise into the library's own errors."""
    try:
        yield
    except LIBRARY_ERRORS:
        raise
    except RuntimeError as error:
        if is_reset(error):
            raise ConnectionError(str(error)) from error
        if not isinstance(error, RecursionError):  # the library reads one push message inside the other
            raise
        raise InvalidResponse(f"too many push messages: {error}") from error
    except Exception as error:  # a border: the library may raise anything for what a server sends
        raise InvalidResponse(f"{type(error).__name__}: {error}") from error
