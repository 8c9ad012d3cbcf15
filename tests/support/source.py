"""A foreign source: any WebSocket server that sends frames, with or without cursors and resuming."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.http11 import Response


class Source:
    """Sends each frame given to ``send`` to all connected clients. ``accept`` decides how a new client is answered."""

    def __init__(self) -> None:
        self.clients: set[ServerConnection] = set()
        self.asked_after: list[str | None] = []
        self.headers: dict[str, str] = {}
        self.backlog: Callable[[str | None], Sequence[str | bytes]] = lambda _: ()
        self.connected = asyncio.Condition()
        self._server: Server | None = None
        self._port = 0

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self._port}/"

    async def start(self) -> None:
        self._server = await serve(
            self._serve, "127.0.0.1", self._port, compression=None, process_response=self._add_headers, max_size=None
        )
        self._port = next(iter(self._server.sockets)).getsockname()[1]

    async def stop(self) -> None:
        if self._server:
            self._server.close()
            await self._server.wait_closed()
            self._server = None

    async def send(self, *frames: str | bytes) -> None:
        for client in list(self.clients):
            for frame in frames:
                with contextlib.suppress(Exception):
                    await client.send(frame)

    async def wait_for_clients(self, count: int) -> None:
        async with self.connected:
            await asyncio.wait_for(self.connected.wait_for(lambda: len(self.clients) >= count), 20)

    def _add_headers(self, connection: ServerConnection, request: object, response: Response) -> None:
        for name, value in self.headers.items():
            response.headers[name] = value

    async def _serve(self, client: ServerConnection) -> None:
        assert client.request is not None
        after = parse_qs(urlsplit(client.request.path).query).get("after", [None])[0]
        self.asked_after.append(after)
        async with self.connected:
            self.clients.add(client)
            self.connected.notify_all()
        try:
            for frame in self.backlog(after):
                await client.send(frame)
            await client.wait_closed()
        finally:
            self.clients.discard(client)


@contextlib.asynccontextmanager
async def running_source() -> AsyncIterator[Source]:
    source = Source()
    await source.start()
    try:
        yield source
    finally:
        await source.stop()
