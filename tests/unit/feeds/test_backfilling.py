"""A gap's pages are closed however fetching ends, and handlers of fetched events may take as long as they like."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence

import pytest
from msgspec import Raw

from tests.support.backfill import FetchedPages, RowsOfNothing
from tests.support.gaps import KeptGaps
from unlost.listener.core.batch_queue import BatchQueue
from unlost.listener.core.clocks import Clocks
from unlost.listener.core.errors import Transient
from unlost.listener.core.facts import Fact
from unlost.listener.core.gap import Gap
from unlost.listener.core.in_flight import STORED, InFlight
from unlost.listener.pipeline.inlet import Inlet
from unlost.listener.pipeline.intake import Intake
from unlost.listener.pipeline.peers.affinity import PeerAffinity
from unlost.listener.pipeline.policy import Policy
from unlost.listener.source import backfilling
from unlost.listener.source.backfilling import Backfiller, FetchReceipt
from unlost.listener.source.feed.hook import Action, FeedEvent, Fetching

CLOCKS = Clocks(time.time, time.monotonic)
GAP = Gap("g", "feed", "disconnected", None, None, None, 0.0, 0.0)


def page(*names: str) -> list[Action]:
    return [FeedEvent(id=name, payload=Raw(b"1")) for name in names]


class Bed:
    """A backfiller of one gap, and the queue into which it puts events."""

    def __init__(self, feed: FetchedPages, rows: RowsOfNothing, policy: Policy) -> None:
        self.gaps = KeptGaps()
        self.gaps.recorded["g"] = GAP
        self.facts: list[Fact] = []
        self.held, self.looks = "", 0
        self.queue: BatchQueue[InFlight] = BatchQueue()
        self.affinity = PeerAffinity(self.queue, peer_wait=0.0)
        self.intake = Intake(policy=policy, affinity=self.affinity, clocks=CLOCKS, facts=self.facts.append)
        self.backfiller = Backfiller(
            "feed", feed, Fetching(tries=2), admit=self._inlet, gaps=self.gaps, rows=rows, max_bytes=1_000,
            facts=self.facts.append, held=self.look, now=lambda: 1.0,
        )  # fmt: skip

    def look(self) -> str:
        self.looks += 1
        return self.held

    def _inlet(self, acknowledge: Callable[[Sequence[FetchReceipt]], None]) -> Inlet:
        return Inlet(
            intake=self.intake, segmenter=None, affinity=self.affinity, max_bytes=1_000, clocks=CLOCKS,
            acknowledge=acknowledge,
        )  # fmt: skip

    async def end(self, count: int) -> None:
        """Let so many events become rows."""
        while count:
            taken = await self.queue.take(count)
            self.intake.finish([(one, STORED) for one in taken])
            count -= len(taken)

    async def until(self, fact: Callable[[], object]) -> None:
        async with asyncio.timeout(5):
            while not fact():  # noqa: ASYNC110
                await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def filling(
    feed: FetchedPages,
    rows: RowsOfNothing | None = None,
    policy: Policy = Policy(),  # noqa: B008
) -> AsyncIterator[Bed]:
    bed = Bed(feed, rows or RowsOfNothing(), policy)
    running = asyncio.create_task(bed.backfiller.run())
    try:
        yield bed
    finally:
        running.cancel()
        await asyncio.wait([running])


async def test_pages_are_closed_when_postgresql_does_not_answer() -> None:
    feed = FetchedPages(page("a"), page("b"))
    async with filling(feed, RowsOfNothing(Transient("away"))) as bed:
        await bed.until(lambda: bed.gaps.waits)
        assert feed.closed


async def test_pages_are_closed_by_a_stop_that_finds_no_room() -> None:
    feed = FetchedPages(page("a"), page("b"))
    async with filling(feed, policy=Policy(max_events=1)) as bed:
        await bed.until(lambda: bed.intake.full)
    assert feed.closed == 1


async def test_pages_that_take_too_long_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backfilling, "TRY_SECONDS", 0.05)
    feed = FetchedPages(page("a"), None)
    async with filling(feed) as bed:
        await bed.until(lambda: bed.gaps.waits)
        assert bed.gaps.waits[0][1] == "the pages took longer than 0.05 s"
        assert feed.closed


async def test_a_time_limit_of_the_feeds_own_code_is_its_error() -> None:
    async with filling(FetchedPages(TimeoutError("of mine"))) as bed:
        await bed.until(lambda: bed.gaps.waits)
        assert bed.gaps.waits[0][1] == "TimeoutError: of mine"


async def test_a_slow_handler_makes_no_gap_fail_and_its_lease_is_renewed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backfilling, "TRY_SECONDS", 0.05)
    monkeypatch.setattr(backfilling, "LEASE_SECONDS", 0.1)
    async with filling(feed := FetchedPages(page("a"), page("b")), policy=Policy(max_events=1)) as bed:
        await bed.until(lambda: len(bed.gaps.waits) >= 3)  # no room for b
        await bed.end(1)
        await bed.until(lambda: bed.intake.full)
        renewed = len(bed.gaps.waits)
        await bed.until(lambda: len(bed.gaps.waits) >= renewed + 3)
        await bed.end(1)
        await bed.until(lambda: bed.gaps.outcomes)
        assert bed.gaps.outcomes == {"g": ("filled", "")}
        assert {*bed.gaps.waits} == {(0.1, backfilling.SETTLING)}
        assert (feed.asked, bed.gaps.found) == (1, {"g": 2})


async def test_a_gap_is_fetched_again_if_postgresql_went_back() -> None:
    async with filling(feed := FetchedPages(page("a"))) as bed:
        await bed.until(lambda: bed.intake.count)
        bed.backfiller.read_again()
        await bed.until(lambda: feed.asked == 2)
        assert bed.gaps.waits == [(0.0, "PostgreSQL may have lost events meanwhile")]
        await bed.end(2)  # the event as first fetched, and as fetched again
        await bed.until(lambda: bed.gaps.outcomes)
        assert bed.gaps.outcomes == {"g": ("filled", "")}


async def test_a_paused_listener_fetches_nothing_until_it_is_resumed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backfilling, "LOOK_SECONDS", 0.01)
    feed = FetchedPages(page("a"), page("b"))
    async with filling(feed) as bed:
        bed.held = "paused"
        looks = bed.looks
        await bed.until(lambda: bed.looks >= looks + 3)
        assert (feed.asked, bed.gaps.tries) == (0, {}), "it takes no gap"
        bed.held = ""
        await bed.until(lambda: bed.intake.count)
        await bed.end(2)
        await bed.until(lambda: bed.gaps.outcomes)
        assert bed.gaps.outcomes == {"g": ("filled", "")}


async def test_a_pause_holds_between_two_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backfilling, "LOOK_SECONDS", 0.01)
    feed = FetchedPages(page("a"), page("b"))
    async with filling(feed) as bed:
        feed.yielded = lambda: setattr(bed, "held", "paused")
        await bed.until(lambda: bed.held)
        looks = bed.looks
        await bed.until(lambda: bed.looks >= looks + 3)
        assert bed.intake.count == 1
        bed.held = ""
        await bed.until(lambda: bed.intake.count == 2)
