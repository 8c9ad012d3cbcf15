"""A source that wants acknowledgements, and the way in for its messages, both in memory."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

from unlost.listener.core.facts import Fact
from unlost.listener.core.watermark import Position, Watermark
from unlost.listener.ports.source import Batch, Loss, Opened, Receipt, SourceEnded, Taken


class AcknowledgedSource:
    """A source with one session after another. The first ones refuse what they are given back."""

    name, shared, partitioned, resumes = "acknowledged", True, False, True

    def __init__(self, refuses: int = 0, messages: Sequence[Receipt] = ()) -> None:
        self.refuses = refuses
        self.messages = [*messages]
        self.left = asyncio.Event()
        self.got: asyncio.Queue[Receipt] = asyncio.Queue()
        self.opened = asyncio.Event()
        self.aborted = 0
        self.facts: list[Fact] = []
        self.given_back = asyncio.Event()

    @contextlib.asynccontextmanager
    async def open(self, cursor: Callable[[], Awaitable[str | None]]) -> AsyncIterator["AcknowledgedSource"]:
        self.opened.set()
        self._ended = asyncio.Event()
        try:
            yield self
        finally:
            self.left.set()

    opening = Opened()

    async def take(self, most: int, size: int) -> Taken:
        if self.messages:
            return Batch([b"{}"], [None], [(1, self.messages.pop(0))])
        await self._ended.wait()
        raise SourceEnded(Loss("ended"))

    async def take_rest(self, most: int, size: int) -> Taken | None:
        return None

    async def run(self, paused: Callable[[], bool]) -> None:
        await asyncio.Event().wait()

    async def settled(self, receipts: Sequence[Receipt]) -> None:
        if self.refuses:
            self.refuses -= 1
            self._ended.set()
            raise SourceEnded(Loss("cannot be acknowledged now"))
        for one in receipts:
            self.got.put_nowait(one)

    async def give_back(self) -> None:
        self.given_back.set()
        if self.refuses:
            raise SourceEnded(Loss("cannot be given back now"))

    def abort(self) -> None:
        self.aborted += 1
        self._ended.set()


class WatermarkInlet:
    """Has a watermark, and room for everything."""

    class intake:  # noqa: N801  only its fields are used
        full, room, count = False, (1_000, 1_000_000), 0

    def __init__(self, acknowledge: Callable[[Sequence[Any]], None]) -> None:
        self.acknowledge = acknowledge
        self.watermark = Watermark(0, acknowledge)
        self.positions: list[Position] = []
        self.taken = asyncio.Event()

    def receive(self, batch: Batch) -> str | None:
        self.positions += [self.watermark.open(None, count, receipt) for count, receipt in batch.receipts]
        self.taken.set()
        return None

    def read_again(self) -> None:
        self.watermark.end()
        self.watermark = Watermark(self.watermark.reading + 1, self.acknowledge)
