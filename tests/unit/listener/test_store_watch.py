"""Whether a failure counts: only if the store accepts rows meanwhile."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable

import pytest

from tests.support.rows import FakeRows
from unlost.listener.core.backoff import FullJitter
from unlost.listener.core.breaker import Breaker
from unlost.listener.core.clocks import Clocks
from unlost.listener.core.errors import NotPermitted, Permanent, Transient, Unavailable
from unlost.listener.core.facts import Fact, StoringPaused, StoringResumed
from unlost.listener.pipeline import store_watch
from unlost.listener.pipeline.store_watch import StoreWatch

FAILED = Transient("no answer")


@contextlib.asynccontextmanager
async def watching(
    store: FakeRows, facts: list[Fact] | None = None, clock: Callable[[], float] = time.monotonic
) -> AsyncIterator[tuple[StoreWatch, Breaker]]:
    breaker = Breaker("postgres", fail_max=2, reset_seconds=1, facts=lambda _: None)
    watch = StoreWatch(
        store=store, breaker=breaker, clocks=Clocks(time.time, clock),
        facts=lambda fact: None if facts is None else facts.append(fact), rng=lambda: 0.0,
    )  # fmt: skip
    running = asyncio.create_task(watch.run())
    async with asyncio.timeout(20):
        yield watch, breaker
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_watch, "PAUSES", FullJitter(0.01, 0.02))
    monkeypatch.setattr(store_watch, "UNAVAILABLE_SECONDS", 0.01)


async def test_a_failure_counts_if_a_probe_succeeds_after_it():
    store = FakeRows(None)
    async with watching(store) as (watch, _):
        assert await watch.counts(FAILED, time.monotonic())
        assert await watch.counts(Permanent("a row of its own"), time.monotonic())
        assert store.probes == 2
        assert watch.error == ""


async def test_one_probe_answers_all_failures_of_a_moment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(store_watch, "SPACING_SECONDS", 0.2)
    store = FakeRows(None)
    async with watching(store) as (watch, _):
        began = time.monotonic()
        for _ in range(3):
            tasks = [asyncio.create_task(watch.counts(FAILED, time.monotonic())) for _ in range(10)]
            assert await asyncio.gather(*tasks) == [True] * 10
        assert store.probes == 3
        assert time.monotonic() - began >= 0.4, "the first at once, the others later"


@pytest.mark.parametrize("refused", [Transient("away"), Permanent("no table")])
async def test_in_an_outage_nothing_counts_for_as_long_as_it_takes(refused: Exception):
    store, facts = FakeRows(*[refused] * 5, None), list[Fact]()
    async with watching(store, facts) as (watch, _):
        assert not await watch.counts(FAILED, time.monotonic())
        assert store.probes == 6
        await watch.until_taking()
        assert watch.error == ""
    assert [type(fact) for fact in facts] == [StoringPaused, StoringResumed]
    paused, resumed = facts
    assert paused == StoringPaused(str(refused))
    assert isinstance(resumed, StoringResumed)
    assert 0 < resumed.seconds < 20, "the duration of the outage, not a time of day"


async def test_during_an_outage_all_wait_and_know_why():
    store = FakeRows(Transient("away"))
    async with watching(store) as (watch, _):
        first = asyncio.create_task(watch.counts(FAILED, time.monotonic()))
        while not watch.error:  # noqa: ASYNC110  a few iterations of the loop
            await asyncio.sleep(0)
        assert watch.error == "PostgreSQL takes no rows: away"
        second = asyncio.create_task(watch.counts(FAILED, time.monotonic()))
        third = asyncio.create_task(watch.until_taking())
        await asyncio.sleep(0)
        assert not third.done()
        store.answers = [None]
        assert [await first, await second] == [False, False]
        await third


async def test_a_failure_that_began_before_an_outage_ended_does_not_count():
    store, began = FakeRows(Transient("away"), None), time.monotonic()
    async with watching(store) as (watch, _):
        assert not await watch.counts(FAILED, began)
        assert not await watch.counts(FAILED, began)
        assert store.probes == 2, "known without another probe"
        assert await watch.counts(FAILED, time.monotonic())


async def test_a_failure_that_began_as_an_outage_ended_does_not_count():
    store = FakeRows(Transient("away"), None)
    async with watching(store, clock=lambda: 7.0) as (watch, _):
        assert not await watch.counts(FAILED, 7.0)
        assert not await watch.counts(FAILED, 7.0)
        assert store.probes == 2
        assert await watch.counts(FAILED, 7.1)


async def test_a_cancelled_caller_leaves_the_others_their_answer():
    store = FakeRows(Transient("away"))
    async with watching(store) as (watch, _):
        one, other = (asyncio.create_task(watch.counts(FAILED, time.monotonic())) for _ in range(2))
        await asyncio.sleep(0)
        one.cancel()
        await asyncio.wait([one])
        store.answers = [None]
        assert not await other


async def test_a_breaker_that_closes_ends_the_pause(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(store_watch, "PAUSES", FullJitter(3600, 3600))
    store = FakeRows(Transient("away"))
    async with watching(store) as (watch, breaker):
        breaker.failed(0.0, "refused")
        waiting = asyncio.create_task(watch.counts(FAILED, time.monotonic()))
        while not breaker.is_open:  # noqa: ASYNC110  a few iterations of the loop
            await asyncio.sleep(0)
        store.answers = [None]
        breaker.succeeded()
        assert not await waiting


async def test_an_unavailable_error_does_not_count_although_the_probe_works():
    store = FakeRows(None)
    async with watching(store) as (watch, _):
        assert not await watch.counts(Unavailable("no room"), time.monotonic())
        assert store.probes == 1


async def test_a_right_that_no_probe_needs_is_an_outage_with_pauses_that_grow(monkeypatch: pytest.MonkeyPatch):
    pauses = list[int]()

    class Noted(FullJitter):
        def delay(self, failures: int, _: float) -> float:
            pauses.append(failures)
            return 0.01

    monkeypatch.setattr(store_watch, "PAUSES", Noted(0.01, 0.02))
    store, facts = FakeRows(None), list[Fact]()
    refused = NotPermitted("a right is missing: permission denied for table events")
    async with watching(store, facts) as (watch, breaker):
        for _ in range(3):
            assert not await watch.counts(refused, time.monotonic())
        assert pauses == [1, 2, 3]
        assert [fact.why for fact in facts if isinstance(fact, StoringPaused)] == [str(refused)] * 3
        assert breaker.state == "closed"
        assert await watch.counts(FAILED, time.monotonic()), "others count again"
