"""A lean publisher: HTTP over persistent connections, with as little Python per event as possible.

It shares the two cores with the measured processes, and its own time delays each event.
"""

import asyncio
import re
import ssl
from collections import deque
from collections.abc import Callable
from typing import cast
from urllib.parse import urlsplit

CONNECTIONS = 128
"""Enough that no event waits for the response to an earlier one, as with independent publishers."""
LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
FRESH_SECONDS = 2.0
"""A connection that was idle for longer is not used again: the server closes it after 5 s, perhaps just now."""
HEAD_ENDS = b"\r\n\r\n"

Answer = tuple[bytes, bytes]
"""A response: its head and its body."""


class BatchPoster:
    """Sends each request on a free connection."""

    def __init__(self, url: str, tls: ssl.SSLContext | None = None) -> None:
        parts = urlsplit(url)
        self._tls = tls
        self.address = parts.hostname or "127.0.0.1", parts.port or 80
        self._free: list[_Wire] = []
        self._waiting: deque[tuple[bytes, asyncio.Future[Answer]]] = deque()

    async def open(self, count: int = CONNECTIONS) -> None:
        """Provide ``count`` free connections; replace those that are closed, or were idle for long."""
        await asyncio.sleep(0)  # after a long busy time, the loop learns only now which ones are closed
        loop = asyncio.get_running_loop()
        stale = [wire for wire in self._free if wire.is_closed or loop.time() - wire.used_at > FRESH_SECONDS]
        for wire in stale:
            wire.close()
            self._free.remove(wire)
        while len(self._free) < count:
            opened = await loop.create_connection(lambda: _Wire(self._freed), *self.address, ssl=self._tls)
            self._free.append(opened[1])

    def send(self, request: bytes) -> "asyncio.Future[Answer]":
        """Send a request, at once or when a connection is free. It creates no task."""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((request, answer))
        self._send_on()
        return answer

    async def post(self, path: str, body: bytes) -> bytes:
        """Post a body; return the response's body. Raises ``RuntimeError`` unless the status is 2xx."""
        await self.open(1)
        return checked(await self.send(request(path, body)))

    def close(self) -> None:
        """Close the connections."""
        for wire in self._free:
            wire.close()

    def _freed(self, wire: "_Wire") -> None:
        self._free.append(wire)
        self._send_on()

    def _send_on(self) -> None:
        while self._waiting and self._free:
            wire = self._free.pop()
            if not wire.is_closed:
                wire.send(*self._waiting.popleft())


def request(path: str, body: bytes, head: bytes = b"") -> bytes:
    """Make a POST request. ``head``: further lines of its head."""
    line = b"POST %b HTTP/1.1\r\nHost: 127.0.0.1\r\n%b" % (path.encode(), head)
    return b"%bContent-Length: %d\r\n\r\n%b" % (line, len(body), body)


def checked(answer: Answer) -> bytes:
    """Return a response's body. Raises ``RuntimeError`` unless the status is 2xx."""
    head, body = answer
    if head[9:10] != b"2":
        raise RuntimeError(f"publishing was answered {head.splitlines()[0].decode()}: {body[:200]!r}")
    return body


def answer_in(read: bytes) -> tuple[Answer, bytes] | None:
    """Return the first response in the bytes, and the bytes after it; None if the response is incomplete."""
    head, ended, body = read.partition(HEAD_ENDS)
    length = LENGTH.search(head) if ended else None
    if length is None or len(body) < (size := int(length[1])):
        return None
    return (head, body[:size]), body[size:]


class _Wire(asyncio.Protocol):
    """One connection, with at most one request at a time."""

    def __init__(self, freed: Callable[["_Wire"], None]) -> None:
        self._freed = freed
        self._transport: asyncio.Transport | None = None
        self._read = b""
        self._answer: asyncio.Future[Answer] | None = None
        self.used_at = asyncio.get_running_loop().time()

    @property
    def is_closed(self) -> bool:
        return self._transport is None or self._transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's class is not a subclass of it

    def send(self, request: bytes, answer: "asyncio.Future[Answer]") -> None:
        """Send a request, and resolve ``answer`` with the response."""
        assert self._transport
        self._answer = answer
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._read += data
        found = answer_in(self._read)
        if found is None:
            return
        answer, self._read = found
        self.used_at = asyncio.get_running_loop().time()
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(answer)
        self._freed(self)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc or ConnectionError("the producer closed the connection"))

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()
