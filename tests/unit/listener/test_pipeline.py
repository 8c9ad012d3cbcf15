"""Wires between the stages that no other test pulls alone."""

import asyncio
import time
from collections.abc import Sequence

import pytest

from tests.support.claims import FakeManager
from tests.support.fakes import as_a, unused
from tests.support.rows import FakeRows
from tests.support.stages import FakeSink
from tests.support.stand_ins import flight, flights
from unlost.listener.claims.manager import ClaimManager
from unlost.listener.core.breaker import Breaker
from unlost.listener.core.clocks import Clocks
from unlost.listener.core.errors import Permanent
from unlost.listener.core.in_flight import STORED, InFlight
from unlost.listener.pipeline.effect_recorder import EffectRecorder
from unlost.listener.pipeline.orderly_stop import Drained, OrderlyStop
from unlost.listener.pipeline.pipeline import Pipeline
from unlost.listener.pipeline.policy import Policy
from unlost.listener.pipeline.suspects import Suspects
from unlost.listener.pipeline.work import Work
from unlost.listener.ports.dead_letters import DeadLetters, HealingLetters, LetterRegister
from unlost.listener.ports.rows import NewRow, Result, Rows
from unlost.listener.ports.source import Batch


async def test_at_a_stop_all_get_letters_where_the_table_may_not_be_read():
    sink, manager = FakeSink(), FakeManager()
    manager.unanswered, manager.lost = -1, {"e"}
    refusing = FakeRows(Permanent("42501: permission denied for table events"))
    pipeline = Pipeline(
        manager=as_a(ClaimManager, manager), store=refusing, register=unused(LetterRegister),
        store_breaker=unused(Breaker), sink=as_a(DeadLetters, sink), healing=unused(HealingLetters),
        effects=unused(EffectRecorder),
        who="a", handler=None, policy=Policy(), clocks=Clocks(time.time, time.monotonic), facts=lambda _: None,
    )  # fmt: skip
    pipeline.intake.enter(flight("e"))
    assert await pipeline.finish(0.0, ()) == Drained(0, 1, 0)
    assert sink.buried == ["e"]


async def test_a_claim_that_ran_out_is_no_longer_held_and_stands_by():
    manager = FakeManager("e", "other")
    pipeline = Pipeline(
        manager=as_a(ClaimManager, manager), store=unused(Rows), register=unused(LetterRegister),
        store_breaker=unused(Breaker), sink=unused(DeadLetters), healing=unused(HealingLetters),
        effects=unused(EffectRecorder),
        who="a", handler=None, policy=Policy(), clocks=Clocks(time.time, time.monotonic), facts=lambda _: None,
    )  # fmt: skip
    pipeline.standby.ran_out(flight("e"))
    assert manager.held == {"other"}, (
        "granted anew, it would keep out every fresh event behind a suspect that waits for it"
    )
    assert pipeline.standby.count == 1


class Pausing:
    """Work whose route pauses for one event."""

    def waiting_longer_than(self, seconds: float) -> set[str]:
        return {"paused"}

    async def stop(self, *, begun: bool, seconds: float = 0.0) -> list[str]:
        return []


def stop_of(pipeline: Pipeline, manager: FakeManager) -> OrderlyStop:
    """The stop of a pipeline whose work pauses."""
    return OrderlyStop(
        manager=as_a(ClaimManager, manager), store=FakeRows(), intake=pipeline.intake,
        claiming=pipeline.claiming, suspects=Suspects(at_once=1), work=as_a(Work, Pausing()),
        settling=pipeline.settling, healer=pipeline.healer, clocks=Clocks(time.time, time.monotonic),
    )  # fmt: skip


async def test_a_stop_does_not_wait_for_a_route_that_pauses():
    sink, manager, other = FakeSink(), FakeManager(), flight("other")
    pipeline = Pipeline(
        manager=as_a(ClaimManager, manager), store=FakeRows(), register=unused(LetterRegister),
        store_breaker=unused(Breaker), sink=as_a(DeadLetters, sink), healing=unused(HealingLetters),
        effects=unused(EffectRecorder),
        who="a", handler=None, policy=Policy(), clocks=Clocks(time.time, time.monotonic), facts=lambda _: None,
    )  # fmt: skip
    pipeline.intake.enter(flight("paused"))
    pipeline.intake.enter(other)
    stop = asyncio.create_task(stop_of(pipeline, manager).finish(60.0, ()))
    await asyncio.sleep(0)
    assert not stop.done(), "the other may end"
    pipeline.intake.finish([(other, STORED)])
    assert await asyncio.wait_for(stop, 10) == Drained(1, 1, 0), "its claim, once its letter is written"
    assert sink.buried == ["paused"]


async def test_a_stop_hands_back_an_event_of_a_route_that_pauses_at_once():
    manager = FakeManager("paused")
    pipeline = Pipeline(
        manager=as_a(ClaimManager, manager), store=unused(Rows), register=unused(LetterRegister),
        store_breaker=unused(Breaker), sink=unused(DeadLetters), healing=unused(HealingLetters),
        effects=unused(EffectRecorder),
        who="a", handler=None, policy=Policy(), clocks=Clocks(time.time, time.monotonic), facts=lambda _: None,
    )  # fmt: skip
    pipeline.intake.enter(flight("paused"))
    assert await asyncio.wait_for(stop_of(pipeline, manager).drain(60.0), 10) == Drained(1)
    assert not manager.held


def run_of_two() -> tuple[InFlight, InFlight]:
    first, second = flights("first", "second")
    first.order_key = second.order_key = "k"
    return first, second


def in_order(manager: FakeManager, rows: FakeRows, sink: FakeSink) -> Pipeline:
    pipeline = Pipeline(
        manager=as_a(ClaimManager, manager), store=rows, register=unused(LetterRegister),
        store_breaker=Breaker("postgres", fail_max=2, reset_seconds=1, facts=lambda _: None),
        sink=as_a(DeadLetters, sink),
        healing=unused(HealingLetters), effects=unused(EffectRecorder), who="a", handler=None,
        policy=Policy(order_by="k"),
        clocks=Clocks(time.time, time.monotonic), facts=lambda _: None,
    )  # fmt: skip
    pipeline.intake.order.used = True
    return pipeline


class Holding(FakeRows):
    """Each insert waits until it may go on."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = asyncio.Queue[int]()
        self.go = asyncio.Event()

    async def insert(self, new: Sequence[NewRow]) -> list[Result]:
        self.asked.put_nowait(len(new))
        await self.go.wait()
        return await super().insert(new)


async def test_a_run_that_got_its_last_letters_during_its_insert_ends_nothing_else():
    rows, sink = Holding(), FakeSink()
    rows.refused["second"] = Permanent("refused")
    pipeline = in_order(FakeManager(), rows, sink)
    first, second = run_of_two()
    for one in (first, second):
        pipeline.intake.enter(one)
    first.run = pipeline.intake.order.run_of(first, 9, lambda _: True)
    pipeline.work.start_all([first])
    storing = asyncio.create_task(pipeline.work.run())
    async with asyncio.timeout(20):
        assert await rows.asked.get() == 2
        assert await pipeline.finish(0.0, ()) == Drained(2, 2, 0)
        assert sink.buried == ["first", "second"]
        rows.go.set()
        assert await rows.asked.get() == 1, "the first, once more"
    assert not storing.done()
    storing.cancel()
    await asyncio.wait([storing])
    assert storing.cancelled()


@pytest.mark.parametrize("when", ["while no more is claimed", "after what was ahead is released"])
async def test_a_stop_hands_back_what_was_claimed_ahead_and_will_not_start(when: str):
    manager = FakeManager("second")
    pipeline = in_order(manager, FakeRows(), FakeSink())
    first, second = run_of_two()
    for one in (first, second):
        pipeline.intake.enter(one)
    if when == "while no more is claimed":
        pipeline.intake.order.claim_ahead([second])
        second.ahead = "held"
        await pipeline.claiming.quiet()
        pipeline.intake.finish([(first, STORED)])
        stop = asyncio.create_task(pipeline.drain(60.0))
    else:
        run = pipeline.intake.order.run_of(first, 9, lambda _: True)
        stop = asyncio.create_task(pipeline.drain(60.0))
        await asyncio.sleep(0.3)
        assert manager.held == {"second"}, "it is being inserted"
        pipeline.settling.wait_again(run)
        pipeline.intake.finish([(first, STORED)])
    await asyncio.wait_for(stop, 20)
    assert not manager.held


async def test_the_next_event_of_a_key_follows_at_once_only_while_its_claim_is_held():
    manager = FakeManager()
    manager.unanswered = -1
    pipeline = in_order(manager, FakeRows(), FakeSink())
    first, second = run_of_two()
    for one in (first, second):
        pipeline.intake.enter(one)
    follows = pipeline.claiming.ahead.next_is_held
    assert not follows(first), "it is not claimed"
    pipeline.intake.order.claim_ahead([second])
    assert not follows(first), "its claim is not answered"
    second.ahead = "held"
    assert follows(first)
    manager.lost = {"second"}
    assert not follows(first), "its lease has ended"
    manager.lost = set()
    await pipeline.claiming.quiet()
    assert not follows(first), "nothing starts any more"


class Sharing(FakeManager):
    """Nearly every segment is of a peer."""

    def share(self) -> tuple[int, int]:
        return 0, 10**9


@pytest.mark.parametrize(
    ("shared", "order_by", "left_to_peers"), [(False, "", True), (True, "", False), (False, "k", False)]
)
async def test_events_are_left_to_peers_only_where_all_receive_them_and_none_has_to_wait_for_another(
    shared: bool, order_by: str, left_to_peers: bool
):
    pipeline = Pipeline(
        manager=as_a(ClaimManager, Sharing()), store=unused(Rows), register=unused(LetterRegister),
        store_breaker=unused(Breaker), sink=unused(DeadLetters), healing=unused(HealingLetters),
        effects=unused(EffectRecorder),
        who="a", handler=None, policy=Policy(peer_wait=60.0, order_by=order_by),
        clocks=Clocks(time.time, time.monotonic), facts=lambda _: None,
    )  # fmt: skip
    frames = [b'{"event_id":"e%d","payload":1}' % number for number in range(2_000)]
    pipeline.inlet("s", shared=shared).receive(Batch(frames, [None] * len(frames)))
    assert (len(pipeline.intake.inside()) < len(frames)) is left_to_peers
    assert len(pipeline.intake.left()) == len(frames)
