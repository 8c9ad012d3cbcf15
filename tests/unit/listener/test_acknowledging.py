"""Receipts on their way back to a source: never for what may be lost, and again if it did not get them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, cast

from tests.support.cursors import FakeCursors
from unlost.listener.core.backoff import FullJitter
from unlost.listener.core.batch_queue import BatchQueue
from unlost.listener.core.facts import Fact, SourceConnected, SourceLost
from unlost.listener.core.watermark import Position, Watermark, settle
from unlost.listener.ports.source import Batch, Loss, Opening, Receipt, SourceEnded, Taken
from unlost.listener.source.reader import Reader, ReadingOptions


class Acknowledged:
    """A source with one session after another. The first ones refuse what they are given back."""

    name, shared, resumes = "acknowledged", True, True

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
    async def open(self, cursor: Callable[[], Awaitable[str | None]]) -> AsyncIterator["Acknowledged"]:
        self.opened.set()
        self._ended = asyncio.Event()
        try:
            yield self
        finally:
            self.left.set()

    opening = Opening()

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


class Inlet:
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


@contextlib.asynccontextmanager
async def reading(source: Acknowledged) -> AsyncIterator[tuple[Reader, Inlet]]:
    receipts: BatchQueue[Receipt] = BatchQueue()
    inlet = Inlet(receipts.put_all)
    reader = Reader(
        source, ReadingOptions("group", backoff=FullJitter(0.001, 0.001)), inlet=cast("Any", inlet),
        cursors=FakeCursors(), must_pause=lambda: "", database_away=lambda: "", overflow=lambda _, __: None,
        facts=source.facts.append, gaps=cast("Any", None), receipts=receipts, rng=lambda: 0.5,
    )  # fmt: skip
    task = asyncio.create_task(reader.run())
    await source.opened.wait()
    try:
        yield reader, inlet
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_a_message_is_acknowledged_once_all_its_events_are_settled() -> None:
    source = Acknowledged()
    async with reading(source) as (_, inlet):
        position = inlet.watermark.open(None, 2, "r1")
        settle([position])
        await asyncio.sleep(0)
        assert source.got.empty()
        settle([position])
        assert await source.got.get() == "r1"


async def test_what_the_source_could_not_get_is_given_to_the_next_session() -> None:
    source = Acknowledged(refuses=2)
    async with reading(source) as (_, inlet):
        settle([inlet.watermark.open(None, 1, "r1")])
        assert await source.got.get() == "r1"
        assert source.refuses == 0


async def test_a_stop_acknowledges_what_ends_after_the_last_message_was_taken() -> None:
    source = Acknowledged(messages=["r1", "r2"])
    async with reading(source) as (reader, inlet):
        await inlet.taken.wait()
        await reader.take_no_more()
        assert source.given_back.is_set()
        assert not source.left.is_set()
        settle([inlet.positions[0]])
        assert await source.got.get() == "r1"
        settle([inlet.positions[1]])
        await reader.acknowledge_rest(10.0)
        assert await source.got.get() == "r2"
    assert source.left.is_set()


async def test_a_stop_leaves_a_source_at_once_that_gets_no_more_acknowledgements() -> None:
    for source in (Acknowledged(), Acknowledged(messages=["r1"])):
        async with reading(source) as (reader, inlet):
            if source.messages:
                await inlet.taken.wait()
                settle(inlet.positions)
                assert await source.got.get() == "r1"
            await reader.take_no_more()
            assert source.left.is_set()
            assert not source.given_back.is_set()


async def test_a_stop_keeps_a_session_that_cannot_give_messages_back_for_acknowledgements() -> None:
    source = Acknowledged(messages=["r1"], refuses=1)
    async with reading(source) as (reader, inlet):
        await inlet.taken.wait()
        await reader.take_no_more()
        source.refuses = 0
        settle(inlet.positions)
        await reader.acknowledge_rest(10.0)
        assert await source.got.get() == "r1"
    assert [one.why for one in source.facts if isinstance(one, SourceLost)] == ["cannot be given back now"]


async def test_a_stop_waits_no_longer_than_it_may_for_a_source_that_refuses() -> None:
    source = Acknowledged(messages=["r1"], refuses=1_000_000)
    async with reading(source) as (reader, inlet):
        await inlet.taken.wait()
        await reader.take_no_more()
        settle([inlet.positions[0]])
        await reader.acknowledge_rest(0.01)
    assert source.got.empty()
    assert source.left.is_set()


async def test_nothing_is_acknowledged_that_postgresql_may_have_lost() -> None:
    source = Acknowledged()
    async with reading(source) as (reader, inlet):
        in_work = inlet.watermark.open(None, 1, "settled later, in the store that went back")
        settle([inlet.watermark.open(None, 1, "settled, not acknowledged yet")])
        reader.read_again()
        assert source.aborted == 1
        settle([in_work])
        settle([inlet.watermark.open(None, 1, "received since")])
        assert await source.got.get() == "received since"
        assert source.got.empty()
        async with asyncio.timeout(5):
            while len(source.facts) < 2:  # noqa: ASYNC110
                await asyncio.sleep(0)
        assert [type(fact) for fact in source.facts] == [SourceConnected] * 2, "the source is not to blame"
