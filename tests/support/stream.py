"""A source in this process that can resume, like Unlost's producer. Each client is a cursor over one list."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

STEM = "journal:"


class ResumingSource:
    """Sends what was published, in order, to each client from its cursor on."""

    def __init__(self) -> None:
        self.event_ids: list[str] = []
        self.asked_after: list[str | None] = []
        self.oldest = 0
        self.clients: set[ServerConnection] = set()
        self._starts_at: dict[ServerConnection, int] = {}
        self._grown = asyncio.Condition()
        self._server: Server | None = None
        self._port = 0

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self._port}/"

    @staticmethod
    def cursor(number: int) -> str:
        return f"{STEM}{number}"

    async def start(self) -> None:
        self._server = await serve(
            self._serve, "127.0.0.1", self._port, compression=None, process_response=self._place, close_timeout=0.2
        )
        self._port = next(iter(self._server.sockets)).getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
            self._server = None

    async def publish(self, *event_ids: str) -> None:
        async with self._grown:
            self.event_ids.extend(event_ids)
            self._grown.notify_all()

    async def forget(self, number: int) -> None:
        """Retention removes the first ``number`` events."""
        self.oldest = number

    async def drop_clients(self, code: int = 1000) -> None:
        """Close every connection from this side."""
        await asyncio.gather(*(client.close(code) for client in list(self.clients)))

    def _place(self, connection: ServerConnection, request: Request, response: Response) -> None:
        after = parse_qs(urlsplit(request.path).query).get("after", [None])[0]
        self.asked_after.append(after)
        number = len(self.event_ids) if after is None else int(after.removeprefix(STEM))
        if number < self.oldest:
            response.headers["unlost-gap"] = after or ""
            number = self.oldest
        response.headers["unlost-cursor"] = self.cursor(number)
        response.headers["unlost-oldest"] = self.cursor(self.oldest)
        self._starts_at[connection] = number

    async def _serve(self, client: ServerConnection) -> None:
        self.clients.add(client)
        watching = asyncio.create_task(_ignore(client))
        number = self._starts_at.pop(client)
        try:
            while not watching.done():
                while number < len(self.event_ids):
                    number += 1
                    event_id = self.event_ids[number - 1]
                    await client.send(
                        json.dumps({"event_id": event_id, "payload": event_id, "cursor": self.cursor(number)})
                    )
                await self._wait_beyond(number, watching)
        except ConnectionClosed:
            pass
        finally:
            self.clients.discard(client)
            watching.cancel()

    async def _wait_beyond(self, number: int, watching: asyncio.Task[None]) -> None:
        async def grown() -> None:
            async with self._grown:
                await self._grown.wait_for(lambda: len(self.event_ids) > number)

        growing = asyncio.create_task(grown())
        try:
            await asyncio.wait({growing, watching}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            growing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await growing


async def _ignore(client: ServerConnection) -> None:
    """Read and ignore whatever a listener reports."""
    with contextlib.suppress(ConnectionClosed):
        async for _ in client:
            pass


@contextlib.asynccontextmanager
async def resuming_source() -> AsyncIterator[ResumingSource]:
    source = ResumingSource()
    await source.start()
    try:
        yield source
    finally:
        await source.stop()
