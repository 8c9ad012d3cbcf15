"""Whatever a source's code and its library raise ends a session, never the reader, and its cause and traceback show."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.support.reading import Reading, reading
from unlost.listener.core.batch_queue import BatchQueue
from unlost.listener.core.facts import SourceConnected, SourceLost
from unlost.listener.observe.logs import ListenerLogs
from unlost.listener.ports.source import Batch, Loss, Opened, SourceEnded
from unlost.listener.source import border

SAID = "LibraryError: no route to amqp://***@host/queue"
SECRET = "amqp://user:hunter2@host/queue"


class LibraryError(Exception):
    """An error of a library that nobody has thought of."""


class Failing:
    """A source, and its session, that raises in one place."""

    name, resumes, shared, partitioned = "s", True, True, False
    opening = Opened()

    def __init__(self, where: str, error: Callable[[], BaseException]) -> None:
        self._where = where
        self._error = error
        self._ended = asyncio.Event()
        self.settled_times = 0

    def _fail(self, where: str) -> None:
        if self._where == where:
            raise self._error()

    @contextlib.asynccontextmanager
    async def open(self, cursor: Any) -> AsyncIterator["Failing"]:
        self._fail("open")
        self._ended.clear()
        try:
            yield self
        finally:
            self._fail("close")

    async def take(self, most: int, size: int) -> Batch:
        self._fail("take")
        if self._where == "close":
            raise SourceEnded(Loss("the connection was reset"))
        await self._ended.wait()
        raise SourceEnded(Loss("aborted"))

    async def take_rest(self, most: int, size: int) -> None:
        self._fail("take_rest")

    async def run(self, paused: Any) -> None:
        self._fail("run")
        await self._ended.wait()

    async def settled(self, receipts: Sequence[Any]) -> None:
        self.settled_times += 1
        self._fail("settled")

    async def give_back(self) -> None:
        self._fail("give back")

    def abort(self) -> None:
        self._ended.set()


def unexpected() -> Exception:
    return LibraryError(f"no route to {SECRET}")


def grouped() -> BaseException:
    return ExceptionGroup("several", [unexpected()])


async def until_lost(one: Reading, times: int = 2) -> SourceLost:
    await one.until(lambda r: len(r.of(SourceLost)) >= times)
    lost: SourceLost = one.of(SourceLost)[0]
    return lost


@pytest.mark.parametrize("error", [unexpected, grouped])
@pytest.mark.parametrize(("where", "said"), [
    ("open", f"the source could not be opened: {SAID}"),
    ("take", f"the source sent something invalid: {SAID}"),
    ("run", f"the work beside reading failed: {SAID}"),
    ("settled", f"acknowledging failed: {SAID}"),
])  # fmt: skip
async def test_an_error_of_a_library_ends_the_session_and_is_reported(where: str, said: str, error: Any) -> None:
    receipts: BatchQueue[Any] = BatchQueue()
    receipts.put("receipt")
    source = Failing(where, error)
    async with reading("", source=source, receipts=receipts) as one:
        lost = await until_lost(one)
        assert lost.why == one.reader.error == said
    assert "hunter2" not in lost.traceback
    assert "raise self._error()" in lost.traceback
    with capture_logs() as lines:
        ListenerLogs(debug=False)(lost)
    assert lines[0]["exception"] == lost.traceback
    assert lines[0]["event"] == "source_lost"


async def test_a_receipt_that_failed_is_acknowledged_in_the_next_session() -> None:
    receipts: BatchQueue[Any] = BatchQueue()
    receipts.put("receipt")
    source = Failing("settled", unexpected)
    async with reading("", source=source, receipts=receipts) as one:
        await until_lost(one)
    assert source.settled_times >= 2
    assert receipts.waiting() == ["receipt"]


async def test_the_cause_of_an_end_counts_more_than_a_failed_close() -> None:
    async with reading("", source=Failing("close", unexpected)) as one:
        lost = await until_lost(one)
    assert (lost.why, lost.traceback) == ("the connection was reset", "")


async def test_a_source_that_cannot_resume_may_fail_when_asked_for_the_rest() -> None:
    source = Failing("take_rest", unexpected)
    source.resumes = False
    async with reading("", source=source) as one:
        await one.until(lambda r: bool(r.of(SourceConnected)))
        source.abort()
        lost = await until_lost(one)
        assert [fact.why for fact in one.of(SourceLost)] == [f"what had arrived could not be read: {SAID}", "aborted"]
        assert lost.traceback
        one.task.cancel()
        await asyncio.wait([one.task])
        assert one.task.cancelled(), "such an error does not replace a stop"


async def test_a_library_that_cancels_its_own_work_does_not_stop_the_reader() -> None:
    for where in ("open", "take", "run", "settled"):
        receipts: BatchQueue[Any] = BatchQueue()
        receipts.put("receipt")
        async with reading("", source=Failing(where, asyncio.CancelledError), receipts=receipts) as one:
            lost = await until_lost(one)
            assert lost.why.endswith(": CancelledError")


async def test_opening_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(border, "OPEN_SECONDS", 0.01)

    class Silent(Failing):
        @contextlib.asynccontextmanager
        async def open(self, cursor: Any) -> AsyncIterator[Failing]:
            await asyncio.get_running_loop().create_future()
            yield self

    async with reading("", source=Silent("", unexpected)) as one:
        lost = await until_lost(one)
    assert lost.why == "opening the source and subscribing took longer than 0 seconds"


async def test_a_mistake_of_our_own_still_ends_the_reader() -> None:
    class Giving(Failing):
        async def take(self, most: int, size: int) -> Batch:
            return Batch([b"{}", b"{}"], [None, None])

    async with reading("", source=Giving("", unexpected)) as one:
        one.inlet.receive = lambda batch: 1 / 0  # type: ignore[method-assign,assignment,return-value]
        await asyncio.wait([one.task])
        assert isinstance(one.task.exception(), ZeroDivisionError)


async def test_a_reader_that_is_stopped_stops() -> None:
    async with reading("", source=Failing("", unexpected)) as one:
        await one.until(lambda r: bool(r.of(SourceConnected)))
        one.task.cancel()
        await asyncio.wait([one.task])
        assert one.task.cancelled()
