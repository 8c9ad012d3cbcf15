"""The connection that a reader uses, and the settings of a source.

Two implement it: ``websocket.py`` beside this file, as the authors of ``websockets`` meant, and
``listener/fast/websocket.py``, which costs less.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Literal, Protocol

from websockets.datastructures import Headers

from unlost.listener.core.backoff import Backoff
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
class SourceOptions:
    """The settings of a source."""

    url: str
    name: str
    group: str
    start_from: Literal["oldest", "now"] = "oldest"
    resumes: Literal["auto", "yes", "no"] = "auto"
    headers: dict[str, str] = field(default_factory=dict)
    max_event: int = 1024 * 1024
    max_frame: int = 1024 * 1024
    open_timeout: float = 10.0
    keepalive: float = 20.0
    backoff: Backoff = field(default_factory=Backoff)


Open = Callable[[str, SourceOptions], AbstractAsyncContextManager[Connection]]
"""Opens one connection to an address."""
