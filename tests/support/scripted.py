"""A source on a stream whose handshakes and frames a test writes, and a session whose heartbeat fails."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed

from tests.support.reading import Reading, reading
from unlost.listener.core.oversized import Oversized
from unlost.listener.ports.source import Batch, Loss, Opened, SourceEnded
from unlost.listener.source.websocket.connection import WebSocketOptions

URL = "ws://source/feed?sig=a%2Fb+c&cursor=mine"


class ScriptedConnection:
    """Delivers these frames, and then ends or stays open."""

    def __init__(self, source: "ScriptedSource", headers: Headers, frames: Sequence[bytes]) -> None:
        self._source, self.headers, self._frames = source, headers, list(frames)
        self.response = self
        self.transport: Any = None
        self.received = 0

    async def take(self, most: int, size: int) -> Sequence[bytes] | Oversized:
        if self._frames:
            frames, self._frames = self._frames, []
            self._source.now += self._source.lives
            return frames
        if self._source.ends is None:
            await asyncio.get_running_loop().create_future()
        assert self._source.ends is not None
        raise self._source.ends

    async def take_rest(self, most: int, size: int) -> Sequence[bytes] | Oversized:
        return ()

    async def ping(self) -> Awaitable[float]:
        raise AssertionError("nothing is silent for so long here")


class ScriptedSource:
    """Answers each handshake as the test says."""

    def __init__(
        self, headers: dict[str, str] | None = None, frames: Sequence[bytes] = (), ends: ConnectionClosed | None = None,
        refuses: Sequence[Exception] = (), lives: float = 2.0,
    ) -> None:  # fmt: skip
        self.headers = Headers(headers or {})
        self.frames = frames
        self.ends = ends
        self.refuses = list(refuses)
        self.lives = lives
        self.now = 0.0
        self.asked: list[str] = []
        self.offered: list[Mapping[str, str]] = []

    @contextlib.asynccontextmanager
    async def open(self, url: str, options: WebSocketOptions) -> AsyncIterator[Any]:
        self.asked.append(urlsplit(url).query)
        self.offered.append(options.offers)
        if self.refuses:
            raise self.refuses.pop(0)
        yield ScriptedConnection(self, self.headers, self.frames)

    def read(self, **options: Any) -> contextlib.AbstractAsyncContextManager[Reading]:
        return reading(URL, open_connection=self.open, clock=lambda: self.now, **options)


class FailingHeartbeat:
    """A session whose work beside reading fails. It delivers nothing, and ends when it is aborted."""

    opening = Opened()

    def __init__(self) -> None:
        self.ended = asyncio.Event()

    async def take(self, most: int, size: int) -> Batch:
        await self.ended.wait()
        raise SourceEnded(Loss("aborted"))

    async def take_rest(self, most: int, size: int) -> None:
        return None

    async def run(self, paused: Any) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._beat())

    async def _beat(self) -> None:
        raise SourceEnded(Loss("the heartbeat was not answered", 4009))

    async def settled(self, receipts: Sequence[Any]) -> None:
        raise AssertionError("nothing was delivered")

    async def give_back(self) -> None:
        raise AssertionError("this source does not resume")

    def abort(self) -> None:
        self.ended.set()
