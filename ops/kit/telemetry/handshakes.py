"""TLS handshakes of a server: how many may be unfinished, and for how long.

A server's own protocol gets a connection after its handshake, so its seats count no connection before. Here the oldest
unfinished handshake is dropped to begin a new one. An honest handshake takes milliseconds, so it is never the
oldest for long.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable
from typing import cast

from unlost.ops.kit.telemetry.tls import HANDSHAKE_SECONDS, ServerTls

MOST = 256
SHUTDOWN_SECONDS = 5.0
"""How long a peer may take to answer our goodbye."""


class Handshakes:
    """The unfinished handshakes of one process."""

    def __init__(self, tls: ServerTls, *, most: int = MOST, seconds: float = HANDSHAKE_SECONDS) -> None:
        self.tls = tls
        self._most = most
        self._seconds = seconds
        self._under_way: dict[socket.socket, asyncio.Task[None]] = {}  # the oldest first
        self.dropped: Callable[[], None] = lambda: None
        """Called when one is dropped for another."""

    def __len__(self) -> int:
        return len(self._under_way)

    def begin(self, transport: asyncio.BaseTransport, make: Callable[[], asyncio.Protocol]) -> None:
        """Shake hands on this new connection, and then give it to the protocol that ``make`` returns.

        The event loop starts TLS on an accepted socket, not on a transport that reads already. So the socket gets a
        second descriptor, and the transport is given up.
        """
        plain = cast("asyncio.Transport", transport)
        plain.set_protocol(asyncio.Protocol())
        accepted = _second_descriptor(plain)
        plain.abort()
        if accepted is None:
            return
        if len(self._under_way) >= self._most:
            oldest = next(iter(self._under_way))
            del self._under_way[oldest]
            _end(oldest)
            self.dropped()
        self._under_way[accepted] = asyncio.create_task(self._shake(accepted, make), name="TLS handshake")

    async def _shake(self, accepted: socket.socket, make: Callable[[], asyncio.Protocol]) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                make, accepted, ssl=self.tls.context,
                ssl_handshake_timeout=self._seconds, ssl_shutdown_timeout=SHUTDOWN_SECONDS,
            )  # fmt: skip
        except OSError:
            accepted.close()
        finally:
            self._under_way.pop(accepted, None)

    def close(self) -> None:
        """Drop all that are under way."""
        for accepted in tuple(self._under_way):
            _end(accepted)


class TlsFront(asyncio.Protocol):
    """A new connection, until its handshake begins."""

    def __init__(self, handshakes: Handshakes, make: Callable[[], asyncio.Protocol]) -> None:
        self._handshakes = handshakes
        self._make = make

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._handshakes.begin(transport, self._make)


def _second_descriptor(transport: asyncio.Transport) -> socket.socket | None:
    """The transport's socket once more; None if this process may open no more files."""
    try:
        accepted = socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))
    except OSError:
        return None
    accepted.setblocking(False)
    return accepted


def _end(accepted: socket.socket) -> None:
    with contextlib.suppress(OSError):  # the peer was faster
        accepted.shutdown(socket.SHUT_RDWR)
