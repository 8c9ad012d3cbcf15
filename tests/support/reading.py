"""A reader with a source, and stand-ins for the parts of a listener that it uses."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from tests.support.cursors import FakeCursors
from tests.support.fakes import as_a
from tests.support.gaps import KeptGaps
from unlost.listener.core.backoff import FullJitter
from unlost.listener.core.batch_queue import BatchQueue
from unlost.listener.core.facts import Fact
from unlost.listener.core.oversized import Oversized
from unlost.listener.pipeline.inlet import Inlet
from unlost.listener.ports.source import Batch, Receipt
from unlost.listener.source.gaps import GapRecorder
from unlost.listener.source.reader import Reader, ReadingOptions
from unlost.listener.source.stream.stream import StreamOptions, StreamSource
from unlost.listener.source.websocket.connection import Open, WebSocketOptions


class Intake:
    """Has room for everything."""

    full = False
    room = (1_000, 1_000_000)
    count = 0


class Watermark:
    """Numbers the first reading."""

    reading = 0


class FakeInlet:
    """Keeps everything."""

    def __init__(self) -> None:
        self.intake = Intake()
        self.watermark = Watermark()
        self.bodies: list[bytes] = []
        self.cursors: list[str | None] = []
        self.oversized: list[Oversized] = []
        self.cursor: str | None = None

    def receive(self, batch: Batch) -> str | None:
        self.bodies += batch.bodies
        self.cursors += batch.cursors
        return self.cursor

    def receive_oversized(self, whole: Oversized) -> None:
        self.oversized.append(whole)


class Reading:
    """A running reader, and the facts that it stated."""

    def __init__(
        self, url: str, *, stored: str | None, open_connection: Open | None, clock: Any, **options: Any
    ) -> None:
        self.facts: list[Fact] = []
        self.inlet = FakeInlet()
        self.cursors = FakeCursors(stored)
        self._stated = asyncio.Condition()
        backoff = options.pop("backoff", FullJitter(0.001, 0.001))
        resumes = options.pop("resumes", "auto")
        source = options.pop("source", None)
        receipts: BatchQueue[Receipt] = options.pop("receipts", None) or BatchQueue()
        websocket = WebSocketOptions(**{"open_timeout": 2.0} | options)
        stream = StreamOptions(url, "source", resumes, websocket.max_frame, websocket)
        gaps = GapRecorder(KeptGaps(), now=lambda: 5.0, facts=self._hear)
        self.reader = Reader(
            source or StreamSource(stream, declare=gaps.declare, open_connection=open_connection),
            ReadingOptions("group", backoff=backoff),
            inlet=as_a(Inlet, self.inlet), cursors=self.cursors, must_pause=lambda: "",
            gaps=gaps,
            database_away=lambda: "", overflow=lambda _, __: None, facts=self._hear, rng=lambda: 0.5,
            receipts=receipts, **clock,
        )  # fmt: skip
        self.task = asyncio.create_task(self.reader.run())

    def _hear(self, fact: Fact) -> None:
        self.facts.append(fact)
        self.wake = asyncio.ensure_future(self._tell())

    async def _tell(self) -> None:
        async with self._stated:
            self._stated.notify_all()

    def of(self, kind: type[Fact]) -> list[Any]:
        return [fact for fact in self.facts if isinstance(fact, kind)]

    async def until(self, holds: Callable[["Reading"], bool], seconds: float = 10) -> None:
        """Return once its facts show this. Fails if the reader ends before."""
        async with self._stated:
            await asyncio.wait_for(self._stated.wait_for(lambda: self.task.done() or holds(self)), seconds)
        assert not self.task.done(), f"the reader ended: {self.task}"


@contextlib.asynccontextmanager
async def reading(
    url: str, *, stored: str | None = None, open_connection: Open | None = None,
    clock: Callable[[], float] | None = None, **options: Any,
) -> AsyncIterator[Reading]:  # fmt: skip
    one = Reading(
        url, stored=stored, open_connection=open_connection, clock={"clock": clock} if clock else {}, **options
    )
    try:
        yield one
    finally:
        one.task.cancel()
        await asyncio.wait([one.task])
