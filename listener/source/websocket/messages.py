"""One connection to the source, read message by message by the documented interface of ``websockets``.

A message that is too large for an event is held in memory once, and measured; the fast connection measures it as it
arrives. One that is ``SPARE_BYTES`` larger than an event ends the connection, each time the source sends it. The
library stops reading while more than ``MOST_WAITING`` messages wait. So a hostile source can fill six times that size.
"""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, cast

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Response
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from unlost.listener.core.errors import Transient
from unlost.listener.core.oversized import Measure, Oversized
from unlost.listener.source.websocket.connection import WebSocketOptions

SPARE_BYTES = 8 * 1024 * 1024
MOST_WAITING = 4
"""The library's default is 16. A source that sends many messages sends small ones, many in one read."""


class MessageConnection:
    """A ``Connection`` by ``recv``. Only complete messages are noticed, as a sign of life too."""

    def __init__(self, connection: ClientConnection, *, largest: int, binary: bytes = b"") -> None:
        """``binary``: what is put before each binary message."""
        self._connection = connection
        self._largest = largest
        self._binary = binary
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
        message = await self._connection.recv(decode=False) if not self._binary else await self._marked()
        self.received += len(message)
        if len(message) <= self._largest:
            return [message]
        measure = Measure()
        measure.add(message)
        return measure.end()

    async def _marked(self) -> bytes:
        message = await self._connection.recv()
        return message.encode() if isinstance(message, str) else self._binary + message

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


class TracedConnection(ClientConnection):
    """A connection that keeps the TLS error behind a failed handshake. The library drops it."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Keep the reason."""
        super().connection_lost(exc)
        if isinstance(exc, ssl.SSLError) and self.protocol.handshake_exc is not None:
            self.protocol.handshake_exc.__cause__ = exc


class Connect(connect):
    """Follows no redirect to another host with headers: the library removes those that it knows to be secrets only."""

    may_be_secret = False
    """Whether there are headers that no other host must see."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        """Decide about an answer that is no handshake."""
        old, found = self.ws_uri, super().process_redirect(exc)
        if isinstance(found, str) and self.may_be_secret:
            new = parse_uri(found)
            if (new.host, new.port, new.secure) != (old.host, old.port, old.secure):
                return Transient(f"the source redirects to {new.host}, which must not see the headers: use its address")
        return found


def connect_to(
    url: str,
    options: WebSocketOptions,
    *,
    max_size: int,
    connection: Callable[..., ClientConnection] = TracedConnection,
) -> AbstractAsyncContextManager[ClientConnection]:
    """Connect to a source. Keepalive is the reader's own."""
    tls: dict[str, Any] = {} if options.tls is None else {"ssl": options.tls}
    connecting = Connect(
        url,
        create_connection=cast("type[ClientConnection]", connection),
        additional_headers={**options.offers, **options.headers},
        compression="deflate" if options.compression else None,
        subprotocols=cast("Sequence[Subprotocol]", options.subprotocols) or None,
        max_size=max_size,
        max_queue=MOST_WAITING,
        open_timeout=options.open_timeout,
        ping_interval=None,
        close_timeout=2.0,
        proxy=options.proxy,
        **tls,
    )
    connecting.may_be_secret = bool(options.headers)
    return connecting


@contextlib.asynccontextmanager
async def open_messages(url: str, options: WebSocketOptions) -> AsyncIterator[MessageConnection]:
    """Open one connection to this address."""
    async with connect_to(url, options, max_size=options.max_frame + SPARE_BYTES) as connection:
        yield MessageConnection(connection, largest=options.max_frame, binary=options.binary)
