"""Connections to PostgreSQL, used on the event loop of a ``LoopThread``.

Each purpose has one connection: calls for the same purpose wait for each other. A connection on which a call failed is
cut off and replaced at the next call, because nobody knows what its server still does.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

import asyncpg

from unlost.producer.journal.postgres.statements import CHANNEL

T = TypeVar("T")
Use = Callable[[asyncpg.Connection], Awaitable[T]]

CONNECT_SECONDS = 5.0
CALL_SECONDS = 10.0
"""How long one statement may take. A call of several statements takes a few times as long at most."""
LIBRARY_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, ValueError)
"""``ValueError``: a value that cannot be sent, such as half a character. A timeout is an ``OSError``."""
LOST = (OSError, asyncpg.InterfaceError, asyncpg.InternalClientError, asyncpg.PostgresConnectionError)
AGAIN_SECONDS = 1.0
SETTINGS = {
    "application_name": "unlost producer",
    "synchronous_commit": "on",  # an accepted event survives a crash of the server, whatever its default is
    "default_transaction_isolation": "read committed",  # a statement that waited for the head sees the newest head
    "search_path": "pg_catalog",
}


def in_doubt(error: BaseException) -> bool:
    """Whether the server may have committed in spite of this error: the connection was lost before it answered."""
    return isinstance(error, LOST) and not isinstance(error, ValueError)


class PostgresSession:
    """One connection, opened when it is first needed. ``opened`` prepares each new one."""

    def __init__(self, url: str, opened: Callable[[asyncpg.Connection], Awaitable[None]] | None = None) -> None:
        self._url = url
        self._opened = opened
        self._one_at_a_time = asyncio.Lock()
        self._connection: asyncpg.Connection | None = None

    @property
    def pid(self) -> int | None:
        """The process of the server that serves this connection."""
        connection = self._connection
        return None if connection is None or connection.is_closed() else connection.get_server_pid()

    async def call(self, use: Use[T]) -> T:
        """Use the connection. Errors of the library are raised as they are."""
        async with self._one_at_a_time:
            connection = await self._connected()
            try:
                return await use(connection)
            except BaseException:
                self.cut()
                raise

    async def _connected(self) -> asyncpg.Connection:
        if self._connection is not None and not self._connection.is_closed():
            return self._connection
        connection = await asyncpg.connect(
            self._url, timeout=CONNECT_SECONDS, command_timeout=CALL_SECONDS, server_settings=SETTINGS
        )
        try:
            if self._opened is not None:
                await self._opened(connection)
        except BaseException:
            connection.terminate()
            raise
        self._connection = connection
        return connection

    def cut(self) -> None:
        """Close the connection without a word to the server."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()


class Follower:
    """Listens for the notifications of commits, on a connection of its own, for as long as it runs."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def run(self, heard: Callable[[int, int], None]) -> None:
        """Call ``heard`` with the process that notified, and the newest number. Cancelled at the end."""
        while True:
            with suppress(*LIBRARY_ERRORS):
                await self._listen(heard)
            await asyncio.sleep(AGAIN_SECONDS)

    async def _listen(self, heard: Callable[[int, int], None]) -> None:
        connection = await asyncpg.connect(self._url, timeout=CONNECT_SECONDS, server_settings=SETTINGS)
        ended = asyncio.Event()

        def notified(_: object, pid: int, __: str, payload: object) -> None:
            if isinstance(payload, str) and payload.isdigit():
                heard(pid, int(payload))

        try:
            connection.add_termination_listener(lambda _: ended.set())
            await connection.add_listener(CHANNEL, notified)
            await ended.wait()
        finally:
            connection.terminate()
