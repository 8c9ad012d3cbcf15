"""A TCP proxy in the test's own loop that swallows, cuts or passes what passes through it."""

import asyncio
import contextlib
from typing import Self
from urllib.parse import urlsplit, urlunsplit


class CuttingProxy:
    """Between a client and a server. ``cut_reply`` lets one request through and cuts the connection at the reply."""

    def __init__(self, url: str) -> None:
        self._parts = urlsplit(url)
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._cut_when: bytes | None = None
        self._open = asyncio.Event()
        self._open.set()
        self.cuts = 0
        self._hold_when: bytes | None = None
        self.held = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def url(self) -> str:
        """The server's address by way of this proxy."""
        assert self._server
        port = self._server.sockets[0].getsockname()[1]
        login = self._parts.netloc.rpartition("@")[0]
        return urlunsplit(self._parts._replace(netloc=f"{login + '@' if login else ''}127.0.0.1:{port}"))

    def cut_reply(self, request: bytes) -> None:
        """Once a request with these bytes has passed, cut the connection at the server's next bytes."""
        self._cut_when = request

    def hold_reply(self, request: bytes) -> None:
        """Once a request with these bytes has passed, hold the reply back until ``pass_again``."""
        self._hold_when = request

    def swallow(self) -> None:
        """From now on pass nothing, and close nothing."""
        self._open.clear()

    def pass_again(self) -> None:
        """Undo ``swallow``."""
        self._open.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        server_writer = None
        with contextlib.suppress(OSError, asyncio.CancelledError):
            server_reader, server_writer = await asyncio.open_connection(self._parts.hostname, self._parts.port)
            armed = asyncio.Event()
            async with asyncio.TaskGroup() as group:
                up = group.create_task(self._up(reader, server_writer, armed))
                down = group.create_task(self._down(server_reader, writer, armed))
                up.add_done_callback(lambda _: down.cancel())
                down.add_done_callback(lambda _: up.cancel())
        for end in (writer, server_writer):
            if end is not None:
                end.transport.abort()
        self._tasks.discard(task)

    async def _up(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, armed: asyncio.Event) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 20):
                await self._open.wait()
                if self._cut_when is not None and self._cut_when in data:
                    self._cut_when = None
                    armed.set()
                hold = self._hold_when is not None and self._hold_when in data
                if hold:
                    self._hold_when = None
                    self._open.clear()
                    self.held.set()
                writer.write(data)
                await writer.drain()

    async def _down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, armed: asyncio.Event) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 20):
                await self._open.wait()
                if armed.is_set():
                    self.cuts += 1
                    return
                writer.write(data)
                await writer.drain()
