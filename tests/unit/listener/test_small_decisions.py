"""Watermark, backoff, breaker, standby delays, batch queue: the small pure decisions."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unlost.listener.core.backoff import FullJitter
from unlost.listener.core.batch_queue import SMALL, BatchQueue
from unlost.listener.core.breaker import Breaker
from unlost.listener.core.facts import BreakerChanged, Fact
from unlost.listener.core.watermark import Position, Watermark, settle, settle_whole
from unlost.listener.pipeline.policy import Policy


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 50))))
def test_the_cursor_never_passes_an_unsettled_event(moves: list[tuple[bool, int]]):
    watermark = Watermark()
    positions: list[Position] = []
    model: list[tuple[str, bool]] = []
    for receive, which in moves:
        if receive or not positions:
            model.append((f"j.{len(model)}", False))
            positions.append(watermark.open(model[-1][0]))
        else:
            which %= len(positions)
            settle([] if model[which][1] else [positions[which]])
            model[which] = (model[which][0], True)
        front = next((i for i, (_, settled) in enumerate(model) if not settled), len(model))
        assert watermark.cursor == (model[front - 1][0] if front else None)
        assert watermark.newest == (model[-1][0] if model else None)
        assert watermark.waiting == sum(not settled for _, settled in model)


def test_events_without_a_cursor_hold_the_front_back_too():
    watermark = Watermark()
    bare, placed = watermark.open(None), watermark.open("j.2")
    settle([placed])
    assert watermark.cursor is None
    settle([bare])
    assert (watermark.cursor, watermark.waiting) == ("j.2", 0)


def test_the_watermark_passes_a_batch_once_all_of_it_is_settled():
    watermark = Watermark()
    first, second = watermark.open("j.3", 3), watermark.open("j.5", 2)
    settle([first, second, first])
    assert (watermark.cursor, watermark.waiting) == (None, 2)
    settle([first])
    assert (watermark.cursor, watermark.waiting) == ("j.3", 1)
    settle_whole([second])
    assert (watermark.cursor, watermark.waiting) == ("j.5", 0)


def test_the_watermark_says_how_many_it_has_passed_and_since_when_the_oldest_waits():
    watermark = Watermark()
    assert (watermark.passed, watermark.oldest_at) == (0, None)
    first, second, third = (watermark.open(None, at=float(at)) for at in (10, 20, 30))
    settle([second])
    assert (watermark.opened, watermark.passed, watermark.oldest_at) == (3, 0, 10.0)
    settle([first])
    assert (watermark.passed, watermark.oldest_at) == (2, 30.0)
    settle([third])
    assert (watermark.passed, watermark.oldest_at) == (3, None)


@given(st.integers(1, 10_000), st.floats(0, 0.999))
def test_backoff_stays_between_its_floor_and_thirty_seconds(failures: int, fraction: float):
    delay = FullJitter().delay(failures, fraction)
    assert 0.1 <= delay <= 30.0


def test_backoff_doubles():
    assert [FullJitter().delay(n, 0.999999) for n in (1, 2, 3, 6, 60)] == pytest.approx([1, 2, 4, 30, 30], rel=1e-3)


def breaker() -> tuple[Breaker, list[Fact]]:
    facts: list[Fact] = []
    return Breaker("redis", fail_max=2, reset_seconds=1.0, facts=facts.append), facts


def test_two_failures_in_a_row_open_it_and_a_success_between_them_does_not():
    one, facts = breaker()
    one.failed(0.0, "refused")
    one.succeeded()
    one.failed(1.0, "refused")
    assert not one.is_open
    one.failed(2.0, "silent")
    assert one.is_open
    assert facts == [BreakerChanged("redis", "open", "silent")]
    assert one.why == "silent"
    one.succeeded()
    assert (facts[-1], one.why) == (BreakerChanged("redis", "closed"), "")


def test_half_open_lets_one_probe_through_and_its_outcome_decides():
    one, _ = breaker()
    one.failed(0.0, "refused")
    one.failed(0.0, "refused")
    assert not one.may_try(0.9)
    assert one.may_try(1.0)
    assert not one.may_try(1.0), "a second caller is not a probe"
    one.failed(1.1, "silent")
    assert not one.may_try(2.0)
    assert one.may_try(2.1)
    one.succeeded()
    assert one.state == "closed"


def test_a_success_seen_while_open_closes_it():
    one, _ = breaker()
    one.failed(0.0, "refused")
    one.failed(0.0, "refused")
    one.succeeded()
    assert one.may_try(0.0)
    assert not one.is_open


@given(st.integers(1, 100), st.floats(0, 30))
def test_a_standby_asks_again_within_ten_seconds_and_at_the_latest_at_the_leases_end(asked: int, left: float):
    delay = Policy().stand_by_delay(asked, left)
    assert 0 < delay <= 10
    assert left == 0 or delay <= left + 0.05


async def test_an_inbox_gives_all_that_waits_in_order_up_to_the_limit():
    queue: BatchQueue[int] = BatchQueue()
    taking = asyncio.create_task(queue.take(2))
    queue.put_all([1, 2, 3])
    assert await taking == [1, 2]
    assert await queue.take(10) == [3]


async def test_a_spaced_inbox_gives_the_first_at_once_and_lets_later_ones_gather():
    queue: BatchQueue[int] = BatchQueue(spacing=0.05)
    queue.put(1)
    started = asyncio.get_running_loop().time()
    assert await queue.take(10) == [1]
    taking = asyncio.create_task(queue.take(10))
    queue.put(2)
    await asyncio.sleep(0)
    queue.put(3)
    assert await taking == [2, 3]
    assert asyncio.get_running_loop().time() - started >= 0.15


@pytest.mark.parametrize(("first", "seconds"), [(SMALL - 1, 300.0), (SMALL, 100.0)])
async def test_after_a_small_batch_items_gather_for_longer(first: int, seconds: float, monkeypatch: pytest.MonkeyPatch):
    pauses: list[float] = []

    async def sleep(pause: float) -> None:
        pauses.append(pause)

    queue: BatchQueue[int] = BatchQueue(spacing=100.0)
    queue.put_all(range(first))
    await queue.take(99)
    monkeypatch.setattr(asyncio, "sleep", sleep)
    queue.put(1)
    await queue.take(99)
    assert pauses == [pytest.approx(seconds, abs=10)]


async def test_a_spaced_inbox_never_holds_back_a_whole_batch():
    queue: BatchQueue[int] = BatchQueue(spacing=600.0)
    for batch in ([1, 2], [3, 4]):
        queue.put_all(batch)
        assert await queue.take(2) == batch


async def test_one_waiting_consumer_is_woken_and_another_for_the_rest():
    queue: BatchQueue[int] = BatchQueue()
    takers = [asyncio.create_task(queue.take(2)) for _ in range(3)]
    await asyncio.sleep(0)
    queue.put(1)
    queue.put(2)
    queue.put(3)
    done, waiting = await asyncio.wait(takers, timeout=0.05)
    assert sorted(task.result() for task in done) == [[1, 2], [3]]
    queue.put_behind([4])
    assert await waiting.pop() == [4]


async def test_a_consumer_cancelled_after_waking_wakes_another():
    queue: BatchQueue[int] = BatchQueue()
    first, second = asyncio.create_task(queue.take(1)), asyncio.create_task(queue.take(1))
    await asyncio.sleep(0)
    queue.put(1)
    first.cancel()
    assert await second == [1]
    third, fourth = asyncio.create_task(queue.take(1)), asyncio.create_task(queue.take(1))
    await asyncio.sleep(0)
    third.cancel()
    queue.put(2)
    assert await fourth == [2]
    assert first.cancelled()
    assert third.cancelled()


@given(st.integers(1, 1000), st.floats(0, 60), st.floats(0, 60))
def test_a_quick_handler_may_hold_a_batch_of_claims_and_a_slow_one_few(at_once: int, one: float, other: float):
    policy = Policy(handle_concurrency=at_once)
    few = at_once * 4
    quicker, slower = (policy.claims_at_once(handled=True, seconds=each) for each in sorted((one, other)))
    assert few <= slower <= quicker <= max(few, policy.batch)
    assert policy.claims_at_once(handled=True, seconds=0.0) == max(few, policy.batch)
    assert policy.claims_at_once(handled=True, seconds=1.0) <= few + 0.05 * at_once
    assert 0 < policy.claims_wait_below(handled=True, seconds=one) <= policy.claims_at_once(handled=True, seconds=one)
