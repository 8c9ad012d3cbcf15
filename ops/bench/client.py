"""A lean publisher: HTTP over connections that stay open, and no more Python on an event's way than it takes.

What it costs is taken from the same two cores as what is measured, and waits in front of each event.
"""

import asyncio
import re
from typing import cast
from urllib.parse import urlsplit

CONNECTIONS = 128
"""Enough that at an even rate no event waits for the answer to an earlier one: independent publishers do not either."""
LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
HEAD_ENDS = b"\r\n\r\n"


class Publisher:
    """Posts bodies; each on a connection that is free, or a new one."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._free: list[_Wire] = []
        self._slots = asyncio.Semaphore(CONNECTIONS)

    async def post(self, path: str, body: bytes) -> bytes:
        """Post this; the answer's body, or ``RuntimeError`` where it is not 2xx."""
        async with self._slots:
            wire = await self._wire()
            head, answer = await wire.ask(
                b"POST %b HTTP/1.1\r\nHost: bench\r\nContent-Length: %d\r\n\r\n" % (path.encode(), len(body)), body
            )
            self._free.append(wire)
        if head[9:10] != b"2":
            raise RuntimeError(f"publishing was answered {head.splitlines()[0].decode()}: {answer[:200]!r}")
        return answer

    async def _wire(self) -> "_Wire":
        """One that is free and that the server did not close for idling; or a new one."""
        while self._free:
            wire = self._free.pop()
            if not wire.is_closed:
                return wire
        _, wire = await asyncio.get_running_loop().create_connection(_Wire, self._host, self._port)
        return wire

    async def close(self) -> None:
        """Close the connections."""
        for wire in self._free:
            wire.close()


class _Wire(asyncio.Protocol):
    """One connection, with one request under way at most."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._read = b""
        self._answer: asyncio.Future[tuple[bytes, bytes]] | None = None

    @property
    def is_closed(self) -> bool:
        return self._transport is None or self._transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by name

    def ask(self, head: bytes, body: bytes) -> asyncio.Future[tuple[bytes, bytes]]:
        """Send a request; its answer's head and body."""
        assert self._transport
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.writelines((head, body))
        return self._answer

    def data_received(self, data: bytes) -> None:
        self._read += data
        head, ended, body = self._read.partition(HEAD_ENDS)
        if not ended:
            return
        length = LENGTH.search(head)
        if length is None or len(body) < int(length[1]):
            return
        self._read = b""
        if self._answer is not None and not self._answer.done():
            self._answer.set_result((head, body))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc or ConnectionError("the producer closed the connection"))

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()
