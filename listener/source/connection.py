"""A connection to the source as a reader uses it, what the settings say of the source, and how one is opened."""

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
    """What a source answered to the handshake."""

    headers: Headers


class Connection(Protocol):
    """What is used of a ``Stream``."""

    @property
    def response(self) -> Response | None:
        """The handshake's answer."""
        ...

    @property
    def transport(self) -> asyncio.Transport:
        """What lies below it."""
        ...

    @property
    def received(self) -> int:
        """How many bytes have come."""
        ...

    async def take(self, most: int, size: int) -> Sequence[bytes] | Oversized:
        """The next messages, one at least, and no more than were asked for; ``ConnectionClosed`` at the end."""
        ...

    def take_now(self, most: int, size: int) -> Sequence[bytes] | Oversized:
        """The same of what is here now: nothing, where nothing is. It may be asked when the connection has ended."""
        ...

    async def send(self, message: str) -> None:
        """Say something; ``ConnectionClosed`` at the end."""
        ...

    async def ping(self) -> Awaitable[float]:
        """Ask for a sign of life, to be awaited."""
        ...


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """What the settings say of the source."""

    url: str
    name: str
    group: str
    start_from: Literal["oldest", "now"] = "oldest"
    resumes: Literal["auto", "yes", "no"] = "auto"
    headers: dict[str, str] = field(default_factory=dict)
    max_frame: int = 1024 * 1024
    open_timeout: float = 10.0
    keepalive: float = 20.0
    backoff: Backoff = field(default_factory=Backoff)


Open = Callable[[str, SourceOptions], AbstractAsyncContextManager[Connection]]
"""Opens one connection to an address."""


def open_stream(url: str, options: SourceOptions) -> AbstractAsyncContextManager[Connection]:
    """One connection to this address; frames of more than ``max_frame`` bytes are measured, not held."""
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
