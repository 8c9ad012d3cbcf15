"""One WebSocket connection to a source, and its settings.

It has two implementations: ``messages.py`` beside this file, by the documented interface of ``websockets``, and
``listener/fast/websocket.py``, which costs less.
"""

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol

from websockets.datastructures import Headers

from unlost.listener.core.oversized import Oversized


class Response(Protocol):
    """A source's answer to the handshake."""

    headers: Headers


class Connection(Protocol):
    """One connection to a source."""

    @property
    def response(self) -> Response | None:
        """The answer to the handshake."""
        ...

    @property
    def transport(self) -> asyncio.Transport:
        """The transport below the connection."""
        ...

    @property
    def received(self) -> int:
        """How many bytes have arrived."""
        ...

    async def take(self, most: int, size: int) -> Sequence[bytes] | Oversized:
        """Return the next messages, at least one, within these limits; ``ConnectionClosed`` at the end."""
        ...

    async def take_rest(self, most: int, size: int) -> Sequence[bytes] | Oversized:
        """Return messages that had arrived when the connection ended; nothing if all were taken."""
        ...

    async def send(self, message: str) -> None:
        """Send a text message; ``ConnectionClosed`` at the end."""
        ...

    async def ping(self) -> Awaitable[float]:
        """Send a ping; return an awaitable for its answer."""
        ...


@dataclass(frozen=True, slots=True)
class WebSocketOptions:
    """The settings of a connection. Messages of more than ``max_frame`` bytes are measured, not kept.

    ``compression``: whether messages may be compressed. Only ``messages.py`` can read compressed messages. ``offers``:
    further headers, which any server may see.
    """

    headers: Mapping[str, str] = field(default_factory=dict)
    offers: Mapping[str, str] = field(default_factory=dict)
    max_frame: int = 1024 * 1024
    open_timeout: float = 10.0
    keepalive: float = 20.0
    subprotocols: Sequence[str] = ()
    compression: bool = False
    proxy: str | None = None
    tls: ssl.SSLContext | None = None
    binary: bytes = b""
    """A prefix that marks binary messages. Only ``messages.py`` can add it."""
    ca: str = "WS_CA"
    cert: str = "WS_CERT"
    """The names of the settings by which a user can help if TLS fails."""


Open = Callable[[str, WebSocketOptions], AbstractAsyncContextManager[Connection]]
"""Opens one connection to an address."""
