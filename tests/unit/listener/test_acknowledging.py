"""Receipts on their way back to a source: never for what may be lost, and again if it did not get them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from tests.support.acknowledged import AcknowledgedSource, WatermarkInlet
from tests.support.cursors import FakeCursors
from tests.support.fakes import as_a, unused
from unlost.listener.core.backoff import FullJitter
from unlost.listener.core.batch_queue import BatchQueue
from unlost.listener.core.facts import SourceConnected, SourceLost
from unlost.listener.core.watermark import settle
from unlost.listener.pipeline.inlet import Inlet
from unlost.listener.ports.source import Receipt
from unlost.listener.source.gaps import GapRecorder
from unlost.listener.source.reader import Reader, ReadingOptions


@contextlib.asynccontextmanager
async def reading(source: AcknowledgedSource) -> AsyncIterator[tuple[Reader, WatermarkInlet]]:
    receipts: BatchQueue[Receipt] = BatchQueue()
    inlet = WatermarkInlet(receipts.put_all)
    reader = Reader(
        source, ReadingOptions("group", backoff=FullJitter(0.001, 0.001)), inlet=as_a(Inlet, inlet),
        cursors=FakeCursors(), must_pause=lambda: "", database_away=lambda: "", overflow=lambda _, __: None,
        facts=source.facts.append, gaps=unused(GapRecorder), receipts=receipts, rng=lambda: 0.5,
    )  # fmt: skip
    task = asyncio.create_task(reader.run())
    await source.opened.wait()
    try:
        yield reader, inlet
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_a_message_is_acknowledged_once_all_its_events_are_settled() -> None:
    source = AcknowledgedSource()
    async with reading(source) as (_, inlet):
        position = inlet.watermark.open(None, 2, "r1")
        settle([position])
        await asyncio.sleep(0)
        assert source.got.empty()
        settle([position])
        assert await source.got.get() == "r1"


async def test_a_receipt_that_the_source_refused_goes_to_the_next_session() -> None:
    source = AcknowledgedSource(refuses=2)
    async with reading(source) as (_, inlet):
        settle([inlet.watermark.open(None, 1, "r1")])
        assert await source.got.get() == "r1"
        assert source.refuses == 0


async def test_a_stop_acknowledges_what_ends_after_the_last_message_was_taken() -> None:
    source = AcknowledgedSource(messages=["r1", "r2"])
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
    for source in (AcknowledgedSource(), AcknowledgedSource(messages=["r1"])):
        async with reading(source) as (reader, inlet):
            if source.messages:
                await inlet.taken.wait()
                settle(inlet.positions)
                assert await source.got.get() == "r1"
            await reader.take_no_more()
            assert source.left.is_set()
            assert not source.given_back.is_set()


async def test_a_stop_keeps_a_session_that_cannot_give_messages_back_for_acknowledgements() -> None:
    source = AcknowledgedSource(messages=["r1"], refuses=1)
    async with reading(source) as (reader, inlet):
        await inlet.taken.wait()
        await reader.take_no_more()
        source.refuses = 0
        settle(inlet.positions)
        await reader.acknowledge_rest(10.0)
        assert await source.got.get() == "r1"
    assert [one.why for one in source.facts if isinstance(one, SourceLost)] == ["cannot be given back now"]


async def test_a_stop_waits_no_longer_than_it_may_for_a_source_that_refuses() -> None:
    source = AcknowledgedSource(messages=["r1"], refuses=1_000_000)
    async with reading(source) as (reader, inlet):
        await inlet.taken.wait()
        await reader.take_no_more()
        settle([inlet.positions[0]])
        await reader.acknowledge_rest(0.01)
    assert source.got.empty()
    assert source.left.is_set()


async def test_nothing_is_acknowledged_that_postgresql_may_have_lost() -> None:
    source = AcknowledgedSource()
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
