"""A letter is final: it is written once the claim is confirmed, and never by a listener whose claim is lost."""

import asyncio
import time

import pytest

from tests.support.claims import FakeManager
from tests.support.fakes import as_a
from tests.support.stages import FakeIntake, FakeSink, Returned
from tests.support.stand_ins import flight
from unlost.listener.claims.manager import ClaimManager
from unlost.listener.core.cause import DeadLetterCause, Reason
from unlost.listener.core.claim import Verdict
from unlost.listener.core.clocks import Clocks
from unlost.listener.core.errors import Failure
from unlost.listener.core.facts import DeadLetterFileRecovered, EventBuried, Fact, Facts
from unlost.listener.core.in_flight import DUPLICATE, STORED, Buried, InFlight
from unlost.listener.pipeline.intake import Intake
from unlost.listener.pipeline.settling import Settling
from unlost.listener.pipeline.standby import Standby
from unlost.listener.ports.dead_letters import Burial


def manager_of(unanswered: int, *lost: str) -> FakeManager:
    manager = FakeManager()
    manager.unanswered, manager.lost = unanswered, set(lost)
    return manager


def failed(event_id: str) -> InFlight:
    """An event after an attempt."""
    one = flight(event_id)
    one.attempts.append(Failure(0.0, "store", "transient", "Trouble", "it failed"))
    return one


def settling_with(
    manager: FakeManager,
    standby: Returned,
    sink: FakeSink,
    facts: Facts = lambda _: None,
    intake: FakeIntake | None = None,
) -> Settling:
    return Settling(
        manager=as_a(ClaimManager, manager), standby=as_a(Standby, standby),
        intake=as_a(Intake, intake or FakeIntake()),
        sink=sink,
        written=lambda _: None, clocks=Clocks(time.time, time.monotonic), facts=facts,
    )  # fmt: skip


async def buried(
    manager: FakeManager,
    causes: dict[str, DeadLetterCause],
    enough: int,
    sink: FakeSink | None = None,
    facts: Facts = lambda _: None,
) -> tuple[list[str], list[str]]:
    sink, standby = sink or FakeSink(enough), Returned()
    settling = settling_with(manager, standby, sink, facts)
    for event_id, cause in causes.items():
        settling.bury(failed(event_id), cause)
    running = asyncio.create_task(settling.run())
    async with asyncio.timeout(20):
        await sink.enough.wait()
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()
    return sink.buried, [standby.lost.get_nowait().claim_id for _ in range(standby.lost.qsize())]


EXHAUSTED = DeadLetterCause("exhausted", "store")


async def test_an_isolated_listener_writes_no_letter_before_confirmation():
    manager = manager_of(2, "taken")
    assert await buried(manager, {"mine": EXHAUSTED, "taken": EXHAUSTED}, 1) == (["mine"], ["taken"])
    assert manager.unanswered < 0


async def test_a_letter_that_waited_for_disk_space_is_confirmed_again():
    manager = manager_of(0)
    sink = FakeSink(full=lambda: manager.lost.add("taken"))
    assert await buried(manager, {"mine": EXHAUSTED, "taken": EXHAUSTED}, 1, sink) == (["mine"], ["taken"])


async def test_a_full_disk_is_no_error_when_nothing_waits_for_it_any_more():
    manager, shown = manager_of(0), list[str]()
    sink = FakeSink(full=lambda: manager.lost.add("taken"))

    def hear(fact: Fact) -> None:
        shown.append(type(fact).__name__)
        if isinstance(fact, DeadLetterFileRecovered):
            sink.enough.set()

    assert await buried(manager, {"taken": EXHAUSTED}, 1, sink, hear) == ([], ["taken"])
    assert shown == ["DeadLetterFileFailed", "DeadLetterFileRecovered"]


@pytest.mark.parametrize("reason", ["invalid", "conflict"])
async def test_an_invalid_or_conflicting_event_keeps_its_cause_when_lost(reason: Reason):
    manager, event, standby = manager_of(0, "taken"), failed("taken"), Returned()
    settling = settling_with(manager, standby, FakeSink())
    settling.bury(event, DeadLetterCause(reason, "receive"))
    running = asyncio.create_task(settling.run())
    async with asyncio.timeout(20):
        assert await standby.lost.get() is event
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()
    assert event.cause == DeadLetterCause(reason, "receive")
    assert event.attempts


async def test_an_overflow_letter_waits_for_no_confirmation():
    manager = manager_of(10**6)
    assert await buried(manager, {"mine": EXHAUSTED, "beyond": DeadLetterCause("overflow", "receive")}, 1) == (
        ["beyond"],
        [],
    )


@pytest.mark.parametrize("verdict", ["done", "dead"])
async def test_peers_get_what_is_settled_after_everybody_else(verdict: Verdict):
    manager, facts = manager_of(0), list[Fact]()
    settling = settling_with(manager, Returned(), FakeSink(), facts.append)
    event = failed("e")
    if verdict == "done":
        settling.done([(event, STORED)])
    else:
        settling.bury(event, EXHAUSTED)
    running = asyncio.create_task(settling.run())
    async with asyncio.timeout(20):
        assert await manager.announced.get() == ["segment of e"]
    assert manager.log == [f"settle e, {verdict}"]
    if verdict == "dead":
        assert facts[0] == EventBuried("e", "exhausted", "transient", "it failed", "Trouble")
    shown = [type(fact).__name__ for fact in facts]
    assert shown == ["EventsStored" if verdict == "done" else "EventBuried", "BatchDone"]
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()


async def test_a_letter_with_a_key_settles_its_event_only_once_it_is_registered():
    facts: list[Fact] = []
    written: list[Burial] = []
    first, parked, free = failed("e1"), flight("e2"), failed("free")
    first.order_key = parked.order_key = "k"
    sink = FakeSink(3)
    settling = Settling(
        manager=as_a(ClaimManager, manager_of(0)), standby=as_a(Standby, Returned()), intake=as_a(Intake, FakeIntake()),
        sink=sink, written=written.extend, clocks=Clocks(time.time, time.monotonic), facts=facts.append,
    )  # fmt: skip
    running = asyncio.create_task(settling.run())
    settling.bury(first, EXHAUSTED)
    settling.bury(parked, DeadLetterCause("blocked", "store"))
    settling.bury(free, EXHAUSTED)

    def ended() -> list[str]:
        return [fact.event_id for fact in facts if isinstance(fact, EventBuried)]

    async with asyncio.timeout(20):
        while ended() != ["free"]:  # noqa: ASYNC110
            await asyncio.sleep(0)
        assert [one.letter_id for one in written] == sink.buried, "all are on disk"
        assert await settling.bury_rest([first, parked], EXHAUSTED, first.attempts[0], seconds=0.0) == 0
        assert len(sink.buried) == 3, "an orderly stop writes no second letter"
        settling.registered(written)
        while len(ended()) < 3:  # noqa: ASYNC110
            await asyncio.sleep(0)
    assert ended() == ["free", "e1", "e2"]
    assert (
        EventBuried("e2", "blocked", "transient", "an earlier event of the same key is a dead letter", "Blocked")
        in facts
    )
    running.cancel()
    await asyncio.wait([running])


async def test_each_event_ends_as_decided():
    manager, intake = manager_of(0), FakeIntake()
    settling = settling_with(manager, Returned(), FakeSink(), intake=intake)
    settling.done([(failed("stored"), STORED), (failed("known"), DUPLICATE)])
    settling.bury(failed("failed"), EXHAUSTED)
    settling.bury(failed("wrong"), DeadLetterCause("invalid", "receive"))
    running = asyncio.create_task(settling.run())
    async with asyncio.timeout(20):
        while len(intake.ends) < 4:  # noqa: ASYNC110
            await asyncio.sleep(0)
    assert intake.ends == {
        "stored": STORED, "known": DUPLICATE, "failed": Buried("exhausted"), "wrong": Buried("invalid")
    }  # fmt: skip
    running.cancel()
    await asyncio.wait([running])
