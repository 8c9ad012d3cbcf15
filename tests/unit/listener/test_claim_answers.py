"""The answer to a claim decides about its event, with nothing but the answer: no server, no clock."""

import asyncio
from collections.abc import Sequence

import pytest

from tests.support.claims import FakeManager
from tests.support.fakes import as_a
from tests.support.rows import FakeRows
from tests.support.stages import Ends, FakeIntake, FakeWork
from tests.support.stand_ins import Watch, flight
from unlost.listener.claims.manager import ClaimManager
from unlost.listener.core.batch_queue import BatchQueue
from unlost.listener.core.cause import DeadLetterCause
from unlost.listener.core.claim import UNHANDLED, Answer, Dead, Done, Held, Lapsed, Won
from unlost.listener.core.clocks import Clocks
from unlost.listener.core.errors import Permanent, Transient
from unlost.listener.core.facts import BatchDone, EventsClaimed, EventsStandBy, EventsTakenOver, Fact
from unlost.listener.core.in_flight import DUPLICATE, InFlight, conflict_claim
from unlost.listener.pipeline.claiming import Claiming
from unlost.listener.pipeline.intake import Intake
from unlost.listener.pipeline.peers.affinity import PeerAffinity
from unlost.listener.pipeline.policy import Policy
from unlost.listener.pipeline.settled_before import SettledBefore
from unlost.listener.pipeline.settling import Settling
from unlost.listener.pipeline.standby import Standby
from unlost.listener.pipeline.store_watch import StoreWatch
from unlost.listener.pipeline.suspects import Suspects
from unlost.listener.pipeline.work import Work

POLICY = Policy(batch=8)
CLOCKS = Clocks(lambda: 12.0, lambda: 0.0)
CONFLICT = "an event with the same event_id and other content is settled already"


class Around:
    """Fakes of everything that claiming uses. All record in one log."""

    def __init__(
        self, answer: Answer, *, same: bool | Transient | Permanent = True, handled: bool = False,
        settled: Done | Dead | None = None,
    ) -> None:  # fmt: skip
        self.log: list[object] = []
        self.manager = FakeManager(answer=lambda _: answer, log=self.log)
        self.rows = FakeRows(log=self.log)
        self.rows.same = same
        if settled is not None:
            self.rows.settles["e"] = settled
        self.work = FakeWork(handled=handled, looks=settled is not None, log=self.log)
        self.intake, self.ends = FakeIntake(self.log), Ends(self.log)
        self.queue: BatchQueue[InFlight] = BatchQueue()
        self.standby = Standby(queue=self.queue, manager=as_a(ClaimManager, self.manager), policy=POLICY, clocks=CLOCKS)
        self.settled_before = SettledBefore(
            manager=as_a(ClaimManager, self.manager), store=self.rows, intake=as_a(Intake, self.intake),
            settling=as_a(Settling, self.ends),
            standby=self.standby, clocks=CLOCKS,
        )  # fmt: skip


def claiming(around: Around, facts: list[Fact]) -> Claiming:
    return Claiming(
        queue=around.queue, standby=around.standby, affinity=PeerAffinity(around.queue, peer_wait=0),
        manager=as_a(ClaimManager, around.manager), intake=as_a(Intake, around.intake), store=around.rows,
        watch=as_a(StoreWatch, Watch()), work=as_a(Work, around.work), settling=as_a(Settling, around.ends),
        settled_before=around.settled_before, suspects=Suspects(at_once=POLICY.handle_concurrency), policy=POLICY,
        clocks=CLOCKS, facts=facts.append,
    )  # fmt: skip


async def asked(around: Around, one: InFlight) -> tuple[Claiming, list[Fact]]:
    """Claim this one, and stop when the batch was routed."""
    facts: list[Fact] = []
    made = claiming(around, facts)
    around.queue.put(one)
    running = asyncio.create_task(made.run())
    async with asyncio.timeout(20):
        await around.manager.claimed.wait()
        await made.quiet()
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()
    return made, facts


async def test_an_event_that_is_won_for_the_first_time_starts():
    around, one = Around(Won(1, 0)), flight()
    _, facts = await asked(around, one)
    assert around.log == [f"claim e, take over {UNHANDLED}", "start e"]
    assert (one.epoch, one.takeovers, one.alone) == (1, 0, 0)
    assert facts == [BatchDone("claim", 1, 0.0), EventsClaimed(["e"])]


async def test_an_event_won_from_a_dead_owner_starts_as_a_takeover():
    around, one = Around(Won(4, 2, 1)), flight()
    _, facts = await asked(around, one)
    assert around.log[1:] == ["start e"]
    assert (one.epoch, one.takeovers, one.alone) == (4, 2, 1)
    assert facts[1:] == [EventsClaimed(["e"]), EventsTakenOver(["e"])]


@pytest.mark.parametrize(("alone", "condemned"), [(2, False), (3, True), (4, True)])
async def test_an_event_that_ended_too_many_owners_alone_is_buried(alone: int, condemned: bool):
    around, one = Around(Won(9, 7, alone), handled=True), flight()
    await asked(around, one)
    assert around.log[0] == "claim e, take over 0"
    if not condemned:
        assert around.log[1:] == ["start e"]
        return
    assert around.log[1:] == [("e", DeadLetterCause("crash_loop", "claim"))]
    (failure,) = one.attempts
    assert (failure.at, failure.stage, failure.error_class) == (12.0, "claim", "permanent")
    assert failure.message.startswith("7 owners of this event died or froze")
    assert f"{alone} of them while they ran no other" in failure.message


async def test_without_a_handler_nothing_is_condemned():
    around, one = Around(Won(9, 7, 9)), flight()
    await asked(around, one)
    assert around.log[1:] == ["start e"]


@pytest.mark.parametrize("pardon", ["revive", "handled"])
async def test_a_revived_or_handled_event_is_not_condemned(pardon: str):
    around, one = Around(Won(9, 7, 9), handled=True), flight()
    setattr(one, pardon, True)
    await asked(around, one)
    assert around.log[1:] == ["start e"]


async def test_an_invalid_event_is_buried_once_it_is_won():
    around, cause = Around(Won(1, 0)), DeadLetterCause("invalid", "receive")
    await asked(around, flight(cause=cause))
    assert around.log[1:] == [("e", cause)]


async def test_an_event_that_another_listener_holds_stands_by():
    around = Around(Held(5.0, True))
    _, facts = await asked(around, flight())
    assert (around.log[1:], around.standby.count) == ([], 1)
    assert facts[1:] == [EventsStandBy(["e"])]


async def test_an_event_that_lapsed_without_a_handler_stands_by_too():
    around = Around(Lapsed(True))
    _, facts = await asked(around, flight())
    assert (around.log[1:], around.standby.count) == ([], 1)
    assert facts[1:] == [EventsStandBy(["e"])]


@pytest.mark.parametrize("answer", [Done(True), Dead(True)])
async def test_a_settled_event_is_a_duplicate(answer: Done | Dead):
    around = Around(answer)
    await asked(around, flight())
    assert around.log[1:] == [("e", DUPLICATE)]


async def test_a_won_event_that_is_a_row_is_a_duplicate_and_does_not_start():
    around = Around(Won(1, 0), settled=Done(True))
    await asked(around, flight())
    assert around.log[1:] == [("e", DUPLICATE)]


async def test_a_won_event_that_is_a_letter_is_given_back():
    around = Around(Won(1, 0), settled=Dead(True))
    await asked(around, flight())
    assert around.log[1:] == ["release e", ("e", DUPLICATE)]


# -- the same id, and perhaps other content -------------------------------------------------------


async def test_the_same_bytes_are_a_duplicate_and_nothing_is_compared():
    around = Around(Won(1, 0))
    await around.settled_before.end([(flight(), True)])
    assert around.log == [("e", DUPLICATE)]


async def test_other_bytes_of_the_same_value_are_a_duplicate():
    around = Around(Won(1, 0), same=True)
    await around.settled_before.end([(flight(), False)])
    assert around.log == ["compare e", ("e", DUPLICATE)]


async def test_an_invalid_event_conflicts_with_nothing():
    around = Around(Won(1, 0), same=False)
    await around.settled_before.end([(flight(cause=DeadLetterCause("invalid", "receive")), False)])
    assert around.log == [("e", DUPLICATE)]


def assert_conflict(one: InFlight, log: Sequence[object]) -> None:
    assert log == ["release e", ("rename", "e", conflict_claim(one.event))]
    assert one.cause == DeadLetterCause("conflict", "claim")
    (failure,) = one.attempts
    assert (failure.at, failure.stage, failure.error_class) == (12.0, "claim", "permanent")
    assert failure.message == CONFLICT


async def test_other_content_is_a_conflict_under_a_name_of_its_own():
    around, one = Around(Won(1, 0), same=False), flight()
    await around.settled_before.end([(one, False)])
    assert around.log.pop(0) == "compare e"
    assert_conflict(one, around.log)


async def test_content_that_the_table_refuses_is_a_conflict():
    around, one = Around(Won(1, 0), same=Permanent("22003: out of range")), flight()
    await around.settled_before.end([(one, False)])
    assert around.log.pop(0) == "compare e"
    assert_conflict(one, around.log)


async def test_events_that_cannot_be_compared_stand_by():
    around = Around(Won(1, 0), same=Transient("away"))
    await around.settled_before.end([(flight("e"), False), (flight("f"), False)])
    assert around.log == ["compare e", "compare f"]
    assert around.standby.count == 2


async def test_a_letter_of_the_same_content_ends_what_is_held_as_a_duplicate():
    around = Around(Won(1, 0))
    await around.settled_before.end_buried(flight(), same=True)
    assert around.log == ["release e", ("e", DUPLICATE)]


async def test_a_letter_of_other_content_ends_what_is_held_as_a_conflict():
    around, one = Around(Won(1, 0)), flight()
    await around.settled_before.end_buried(one, same=False)
    assert_conflict(one, around.log)


async def test_a_letter_of_other_content_ends_what_is_doomed_anyhow_as_a_duplicate():
    around, one = Around(Won(1, 0)), flight(cause=DeadLetterCause("conflict", "claim"))
    await around.settled_before.end_buried(one, same=False)
    assert around.log == ["release e", ("e", DUPLICATE)]
