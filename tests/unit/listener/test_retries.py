"""Pausing events, routes with limits of their own, and the queues in which their events wait."""

import asyncio

import pytest

from tests.support.claims import FakeManager
from tests.support.handling import FakeHandler, Routed, handling_with
from tests.support.stand_ins import flights
from unlost.listener.core.attempts import AttemptPolicy, Backoff
from unlost.listener.core.cause import DeadLetterCause
from unlost.listener.core.delivery import Delivery
from unlost.listener.core.errors import Misconfigured, Retry
from unlost.listener.core.event import Event
from unlost.listener.pipeline.policy import Policy

LONG = Policy(handle_concurrency=2, handle_attempts=2, handle_delay=3600.0)


async def test_an_event_that_pauses_has_no_worker_and_counts_against_no_limit() -> None:
    work, manager = FakeHandler(at_once=True, fails=dict.fromkeys("abcdef", 1)), FakeManager()
    async with handling_with(work, manager, policy=LONG) as (handling, put):
        handling.start_all(flights(*"abcdefgh"))
        await put.until(2)
        assert (put.ids, handling.aside, manager.looked) == (["g", "h"], 6, 6)
        first, second = handling.next_retries(2)
        assert {first.event_id, second.event_id} < set("abcdef")
        assert (first.attempt, first.route, first.error.partition(":")[0]) == (2, "h", "ValueError")
        assert 3590 < first.seconds <= second.seconds <= 3600
        async with handling.alone():
            handling.start_suspects(flights("s"))
            await put.until(3)


async def test_an_event_that_finds_no_room_for_its_pause_becomes_a_letter() -> None:
    few = Policy(handle_concurrency=2, handle_attempts=2, handle_delay=3600.0, max_events=16)
    work = FakeHandler(at_once=True, fails=dict.fromkeys("abcd", 1))
    async with handling_with(work, policy=few) as (handling, put):
        handling.start_all(flights(*"abcd"))
        await put.until(2)
        assert (sorted(put.given_up), put.reasons, handling.aside) == (["c", "d"], ["deferred"] * 2, 2)
    small = Policy(handle_concurrency=2, handle_attempts=2, handle_delay=3600.0, max_bytes=100)
    async with handling_with(FakeHandler(at_once=True, fails={"a": 1}), policy=small) as (handling, put):
        handling.start_all(flights("a"))
        await put.until(1)
        assert put.reasons == ["deferred"]


async def test_a_stop_gives_back_what_pauses_for_longer_than_it_lasts() -> None:
    work = FakeHandler(at_once=True, fails={"a": 1, "b": 1})
    async with handling_with(work, policy=LONG) as (handling, _):
        handling.start_all(flights("a", "b"))
        while handling.aside < 2:  # noqa: ASYNC110  two iterations of the loop
            await asyncio.sleep(0)
        assert await handling.stop(begun=False, seconds=7200.0) == []
        assert sorted(await handling.stop(begun=False, seconds=20.0)) == ["a", "b"]
        assert handling.aside == 0


async def test_a_lost_claim_ends_a_pause() -> None:
    work, manager = FakeHandler(at_once=True, fails={"a": 1}), FakeManager()
    async with handling_with(work, manager, policy=LONG) as (handling, _):
        (a,) = flights("a")
        handling.start_all([a])
        while not handling.aside:  # noqa: ASYNC110  two iterations of the loop
            await asyncio.sleep(0)
        assert handling.lose(a)
        assert (handling.aside, handling.lose(a), manager.looked) == (0, False, 2)


async def test_a_suspect_parts_from_the_others_in_its_pause_and_is_a_suspect_again() -> None:
    numbers: list[int] = []

    async def handle(delivery: Delivery) -> None:
        numbers.append(delivery.attempt)
        if delivery.attempt == 1:
            raise ValueError("as ordered")

    manager = FakeManager()
    async with handling_with(handle, manager) as (handling, put):
        (s,) = flights("s")
        handling.start_suspects([s])
        await put.until(1)
        assert (numbers, manager.parted, put.ids) == ([1, 2], ["s"], ["s"])
        assert s.goes_on


async def test_a_handler_says_when_and_that_nothing_more_is_to_be_tried() -> None:
    numbers: list[tuple[str, int]] = []

    async def handle(delivery: Delivery) -> None:
        numbers.append((delivery.event_id, delivery.attempt))
        if delivery.event_id == "a" and delivery.attempt == 1:
            raise Retry(after=0)
        if delivery.event_id == "b":
            raise KeyError("b")

    policy = AttemptPolicy("r", Backoff(attempts=9, first=3600.0, permanent=(KeyError,)))
    async with handling_with(handle, handler=Routed(handle, lambda _: policy)) as (handling, put):
        handling.start_all(flights("a", "b"))
        await put.until(2)
        assert (put.ids, put.buried) == (["a"], {"b": DeadLetterCause("rejected", "handle")})
    assert numbers == [("a", 1), ("b", 1), ("a", 2)]


async def test_a_route_has_its_own_limit_and_others_flow() -> None:
    def policy_of(event: Event) -> AttemptPolicy:
        return AttemptPolicy("slow", concurrency=1) if event.event_id in "abc" else AttemptPolicy("quick")

    work = FakeHandler()
    async with handling_with(work, handler=Routed(work, policy_of)) as (handling, put):
        handling.start_all(flights(*"abcd"))
        await work.until(lambda: work.running == ["a", "d"])
        work.let_go("d")
        await put.until(1)
        assert work.running == ["a"]
        for id_ in "abc":
            work.let_go(id_)
        await put.until(4)
    assert (put.ids, work.begun) == (["d", "a", "b", "c"], ["a", "d", "b", "c"])


async def test_routes_take_turns() -> None:
    def policy_of(event: Event) -> AttemptPolicy:
        return AttemptPolicy(event.event_id[0])

    work = FakeHandler(at_once=True)
    async with handling_with(work, handler=Routed(work, policy_of)) as (handling, put):
        handling.start_all(flights("a1", "a2", "a3", "a4", "b1", "b2"))
        await put.until(6)
    assert work.begun == ["a1", "b1", "a2", "b2", "a3", "a4"]


@pytest.mark.parametrize("policy", [AttemptPolicy("r", timeout=31), AttemptPolicy("r", concurrency=3)])
async def test_a_route_that_asks_for_more_than_the_settings_allow_does_not_start(policy: AttemptPolicy) -> None:
    work = FakeHandler()
    with pytest.raises(Misconfigured, match="HANDLE_"):
        async with handling_with(work, handler=Routed(work, lambda _: policy, [policy])):
            raise AssertionError("it started")
