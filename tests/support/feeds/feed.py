"""The parts that stand-ins share: clients that have subscribed, and events that each of them gets."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any, ClassVar, TypeVar

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed


class StandIn:
    """A feed. Each event has a number; ``message`` is how it is sent."""

    source: str
    """The item of SOURCE that reads it."""
    subprotocols: ClassVar[Any] = None
    gapless = False
    """Whether all clients may be moved at once, and miss nothing."""

    def __init__(self) -> None:
        self.subscribed: list[ServerConnection] = []
        self.published = 0
        self.connections = 0
        self.starts = 2
        """How many listeners were started in all."""
        self.control_sent = 0
        self.changed = asyncio.Condition()
        self._server: Server | None = None
        self.port = 0

    # -- to be filled in ------------------------------------------------------------------------

    def environment(self) -> dict[str, str]:
        raise NotImplementedError

    async def talk(self, client: ServerConnection) -> None:
        """Do what the protocol wants, subscribe the client, and answer it until it leaves."""
        await self.subscribe(client)
        async for _ in client:
            pass

    def message(self, number: int, client: ServerConnection) -> str:
        raise NotImplementedError

    def event_id(self, number: int) -> str:
        raise NotImplementedError

    async def end(self, client: ServerConnection) -> None:
        """Disconnect a client as the feed plans it."""
        await client.close(1001, "going away")

    def check(self) -> None:
        """Assert what only this feed knows."""

    # -- shared ---------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    async def control(self, client: ServerConnection, message: object) -> None:
        self.control_sent += 1
        with contextlib.suppress(ConnectionClosed):
            await client.send(message if isinstance(message, str) else json.dumps(message))

    async def subscribe(self, client: ServerConnection) -> None:
        async with self.changed:
            self.subscribed.append(client)
            self.connections += 1
            self.changed.notify_all()

    async def publish(self, count: int) -> None:
        for _ in range(count):
            number, self.published = self.published, self.published + 1
            await self.deliver(number)

    async def deliver(self, number: int) -> None:
        for client in list(self.subscribed):
            with contextlib.suppress(ConnectionClosed):
                await client.send(self.message(number, client))

    async def until(self, connections: int, subscribed: int) -> None:
        async with self.changed:
            await asyncio.wait_for(
                self.changed.wait_for(lambda: self.connections >= connections and len(self.subscribed) >= subscribed),
                15,
            )

    @property
    def ids(self) -> list[str]:
        return sorted(self.event_id(number) for number in range(self.published))

    async def _serve(self, client: ServerConnection) -> None:
        try:
            with contextlib.suppress(ConnectionClosed):
                await self.talk(client)
        finally:
            async with self.changed:
                if client in self.subscribed:
                    self.subscribed.remove(client)
                self.changed.notify_all()

    async def start(self) -> None:
        self._server = await serve(
            self._serve, "127.0.0.1", 0, subprotocols=self.subprotocols, process_request=self.process_request
        )
        self.port = next(iter(self._server.sockets)).getsockname()[1]

    process_request: Any = None

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()


Feed = TypeVar("Feed", bound=StandIn)


@contextlib.asynccontextmanager
async def running(feed: Feed) -> AsyncIterator[Feed]:
    await feed.start()
    try:
        yield feed
    finally:
        await feed.stop()


async def received(client: ServerConnection) -> Any:
    return json.loads(await client.recv())
