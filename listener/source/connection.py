"""The connection that a reader uses, the settings of a source, and how a connection is opened."""

import asyncio
import functools
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, cast

from websockets.asyncio.client import connect
from websockets.datastructures import Headers

from unlost.listener.core.backoff import Backoff
from unlost.listener.core.oversized import Oversized
from unlost.listener.source.websocket import LONGEST_FRAME, Stream


class Response(Protocol):
    """A source's answer to the handshake."""

    headers: Headers


class Connection(Protocol):
    """The part of a ``Stream`` that a reader uses."""

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

    def take_now(self, most: int, size: int) -> Sequence[bytes] | Oversized:
        """Return what is here now, which may be nothing. May be called after the connection has ended."""
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


def open_stream(url: str, options: SourceOptions) -> AbstractAsyncContextManager[Connection]:
    """Open one connection to this address. Frames of more than ``max_frame`` bytes are measured, not held."""
    opening = connect(
        url,
        create_connection=cast("Any", functools.partial(Stream, largest=options.max_frame)),
        additional_headers=options.headers,
        compression=None,
        max_size=LONGEST_FRAME,
        open_timeout=options.open_timeout,
        ping_interval=None,
        close_timeout=2.0,
        proxy=None,
    )
    return cast("AbstractAsyncContextManager[Connection]", opening)
