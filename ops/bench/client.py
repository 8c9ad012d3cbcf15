"""A lean publisher: HTTP over connections that stay open, and no more Python on an event's way than it takes.

What it costs is taken from the same two cores as what is measured, and waits in front of each event.
"""

import asyncio
import re
from urllib.parse import urlsplit

CONNECTIONS = 16
LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
Wire = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Publisher:
    """Posts bodies; each on a connection that is free, or a new one."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._free: list[Wire] = []
        self._slots = asyncio.Semaphore(CONNECTIONS)

    async def post(self, path: str, body: bytes) -> bytes:
        """Post this; the answer's body, or ``RuntimeError`` where it is not 2xx."""
        async with self._slots:
            reader, writer = await self._connection()
            writer.write(b"POST %b HTTP/1.1\r\nHost: bench\r\nContent-Length: %d\r\n\r\n" % (path.encode(), len(body)))
            writer.write(body)
            head = await reader.readuntil(b"\r\n\r\n")
            length = LENGTH.search(head)
            answer = await reader.readexactly(int(length[1])) if length else b""
            self._free.append((reader, writer))
        if head[9:10] != b"2":
            raise RuntimeError(f"publishing was answered {head.splitlines()[0].decode()}: {answer[:200]!r}")
        return answer

    async def _connection(self) -> Wire:
        """One that is free and that the server did not close for idling; or a new one."""
        while self._free:
            reader, writer = self._free.pop()
            if not reader.at_eof():
                return reader, writer
            writer.close()
        return await asyncio.open_connection(self._host, self._port)

    async def close(self) -> None:
        """Close the connections."""
        for _, writer in self._free:
            writer.close()
