"""A connection for sources: its end is always ``SourceEnded`` with a reason, and silence ends it too.

The keepalive is our own, since during a pause no answer to a ping is read.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence

from websockets.exceptions import ConnectionClosed

from unlost.listener.core.oversized import Oversized
from unlost.listener.ports.source import Loss, SourceEnded
from unlost.listener.source.websocket.connection import Connection, Open, Response, WebSocketOptions
from unlost.listener.source.websocket.loss import ABNORMAL, loss_of, status_of


class HandshakeRefused(SourceEnded):
    """No connection could be opened. ``status``: the HTTP status, if there was an answer."""

    def __init__(self, error: Exception, options: WebSocketOptions) -> None:
        super().__init__(loss_of(error, ca=options.ca, cert=options.cert))
        self.status = status_of(error)


class WebSocketLink:
    """One open connection."""

    def __init__(self, connection: Connection, *, keepalive: float) -> None:
        self._connection = connection
        self._keepalive = keepalive
        self._silent = False
        self.answered_at = float("-inf")
        """When the source was asked by a ping that it has answered, by the event loop's clock."""

    @property
    def response(self) -> Response | None:
        """The answer to the handshake."""
        return self._connection.response

    async def take(self, most: int, size: int) -> Sequence[bytes] | Oversized:
        """Return the next messages, at least one, within these limits; ``SourceEnded`` at the end."""
        try:
            return await self._connection.take(most, size)
        except ConnectionClosed as error:
            raise SourceEnded(self._loss(error)) from error

    async def take_rest(self, most: int, size: int) -> Sequence[bytes] | Oversized:
        """Return messages that had arrived when the connection ended; nothing if all were taken."""
        return await self._connection.take_rest(most, size)

    async def send(self, message: str) -> None:
        """Send a text message; ``SourceEnded`` at the end."""
        try:
            await self._connection.send(message)
        except ConnectionClosed as error:
            raise SourceEnded(self._loss(error)) from error

    def abort(self) -> None:
        """End the connection at once."""
        self._connection.transport.abort()

    async def answers(self) -> bool:
        """Send a ping; return whether it was answered."""
        asked_at = asyncio.get_running_loop().time()
        try:
            await (await self._connection.ping())
        except ConnectionClosed:
            return False
        self.answered_at = asked_at  # all that was sent before then has arrived
        return True

    async def keep_alive(self, paused: Callable[[], bool]) -> None:
        """End a silent connection that answers no ping. During a pause nothing is read, so silence proves nothing."""
        connection = self._connection
        while True:
            received = connection.received
            await asyncio.sleep(self._keepalive)
            if paused() or connection.received != received:
                continue
            try:
                async with asyncio.timeout(self._keepalive):
                    if not await self.answers():
                        return
            except TimeoutError:
                if not paused() and connection.received == received:
                    self._silent = True
                    self.abort()

    def _loss(self, error: ConnectionClosed) -> Loss:
        if self._silent:
            return Loss(f"the source was silent for {self._keepalive:g} s and answered no ping", ABNORMAL)
        return loss_of(error)


@contextlib.asynccontextmanager
async def linked(open_connection: Open, url: str, options: WebSocketOptions) -> AsyncIterator[WebSocketLink]:
    """Open a connection; ``HandshakeRefused`` if that fails, whatever the library raises for it."""
    async with contextlib.AsyncExitStack() as stack:
        try:
            connection = await stack.enter_async_context(open_connection(url, options))
        except Exception as error:
            raise HandshakeRefused(error, options) from error
        yield WebSocketLink(connection, keepalive=options.keepalive)
