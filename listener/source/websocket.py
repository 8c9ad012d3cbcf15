"""One connection to the source, read message by message as the authors of ``websockets`` meant.

A message larger than any event may be is held in memory once, and measured; the fast connection measures it as it
arrives. One that is ``SPARE_BYTES`` larger than an event ends the connection, each time the source sends it. The
library stops reading while more than ``MOST_WAITING`` messages wait. So a hostile source can fill six times that size.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import cast

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Response

from unlost.listener.core.oversized import Measure, Oversized
from unlost.listener.source.connection import SourceOptions

SPARE_BYTES = 8 * 1024 * 1024
MOST_WAITING = 4
"""The library's own number is 16. Messages of a source that sends many are small, and come many in one read."""


class MessageConnection:
    """A ``Connection`` by ``recv``. Messages and life signs are known once a message is whole."""

    def __init__(self, connection: ClientConnection, *, largest: int) -> None:
        self._connection = connection
        self._largest = largest
        self.received = 0
        """How many bytes of messages have been taken."""

    @property
    def response(self) -> Response | None:
        """See ``Connection``, as for all that follows."""
        return self._connection.response

    @property
    def transport(self) -> asyncio.Transport:
        """See ``Connection``."""
        return self._connection.transport

    async def take(self, most: int, size: int) -> Sequence[bytes] | Oversized:
        """See ``Connection``. Takes one message."""
        del most, size
        message = await self._connection.recv(decode=False)
        self.received += len(message)
        if len(message) <= self._largest:
            return [message]
        measure = Measure()
        measure.add(message)
        return measure.end()

    async def take_rest(self, most: int, size: int) -> Sequence[bytes] | Oversized:
        """See ``Connection``."""
        try:
            return await self.take(most, size)
        except ConnectionClosed:
            return ()

    async def send(self, message: str) -> None:
        """See ``Connection``."""
        await self._connection.send(message)

    async def ping(self) -> Awaitable[float]:
        """See ``Connection``."""
        return await self._connection.ping()


def connect_source(
    url: str, options: SourceOptions, *, max_size: int, connection: Callable[..., ClientConnection] = ClientConnection
) -> AbstractAsyncContextManager[ClientConnection]:
    """Connect to a source. Keepalive is the reader's own."""
    return connect(
        url,
        create_connection=cast("type[ClientConnection]", connection),
        additional_headers=options.headers,
        compression=None,
        max_size=max_size,
        max_queue=MOST_WAITING,
        open_timeout=options.open_timeout,
        ping_interval=None,
        close_timeout=2.0,
        proxy=None,
    )


@contextlib.asynccontextmanager
async def open_messages(url: str, options: SourceOptions) -> AsyncIterator[MessageConnection]:
    """Open one connection to this address."""
    async with connect_source(url, options, max_size=options.max_frame + SPARE_BYTES) as connection:
        yield MessageConnection(connection, largest=options.max_frame)
