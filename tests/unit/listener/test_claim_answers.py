"""What becomes of an event by the answer to its claim, with nothing but the answer: no server, no clock."""

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import pytest

from unlost.listener.core.batch_queue import BatchQueue
from unlost.listener.core.cause import DeadLetterCause
from unlost.listener.core.claim import UNHANDLED, Answer, ClaimRequest, Dead, Done, Held, Lapsed, Won
from unlost.listener.core.clocks import Clocks
from unlost.listener.core.errors import Permanent, Transient
from unlost.listener.core.event import parse
from unlost.listener.core.facts import BatchDone, EventsClaimed, EventsStandBy, EventsTakenOver, Fact
from unlost.listener.core.in_flight import DUPLICATE, End, InFlight, conflict_claim
from unlost.listener.pipeline.claiming import Claiming
from unlost.listener.pipeline.peers.affinity import PeerAffinity
from unlost.listener.pipeline.policy import Policy
from unlost.listener.pipeline.settled_before import SettledBefore
from unlost.listener.pipeline.standby import Standby

POLICY = Policy(batch=8)
CLOCKS = Clocks(lambda: 12.0, lambda: 0.0)
CONFLICT = "an event with the same event_id and other content is settled already"


class Around:
    """Stands in for manager, intake, settling, store and work, and records each call to them."""

    open, must_look_before = True, False

    def __init__(
        self,
        answer: Answer,
        *,
        same: bool | Transient | Permanent = True,
        handled: bool = False,
        settled: Done | Dead | None = None,
    ) -> None:
        self.log: list[object] = []
        self.over = asyncio.Event()
        self.leases = self
        self.standby: Standby | None = None
        self.handled = handled
        self.must_look_before = settled is not None
        self._answer, self._same, self._settled = answer, same, settled

    def __len__(self) -> int:
        return 0

    async def claim(self, requests: Sequence[ClaimRequest], *, take_over: int) -> list[Answer]:
        self.over.set()
        self.log.append(f"claim {' '.join(request.event_id for request in requests)}, take over {take_over}")
        return [self._answer for _ in requests]

    async def settled(self, requests: Sequence[ClaimRequest]) -> dict[str, Done | Dead]:
        return {request.event_id: self._settled for request in requests} if self._settled is not None else {}

    async def same_content(self, event: Any) -> bool:
        self.log.append(f"compare {event.event_id}")
        if isinstance(self._same, Transient | Permanent):
            raise self._same
        return self._same

    async def release(self, claim_ids: Sequence[str]) -> None:
        self.log.append(f"release {' '.join(claim_ids)}")

    def rename(self, flight: InFlight, request: ClaimRequest) -> None:
        self.log.append(("rename", flight.claim_id, request))

    def done(self, ended: Sequence[tuple[InFlight, End]]) -> None:
        self.log += [(flight.claim_id, end) for flight, end in ended]

    def bury(self, flight: InFlight, cause: DeadLetterCause) -> None:
        self.log.append((flight.claim_id, cause))

    def start_all(self, flights: Sequence[InFlight]) -> None:
        self.log += [f"start {flight.claim_id}" for flight in flights]

    def report_received(self) -> None:
        """Once a batch is taken."""


def claiming(around: Around, facts: list[Fact] | None = None) -> tuple[Claiming, BatchQueue[InFlight]]:
    queue: BatchQueue[InFlight] = BatchQueue()
    some = cast("Any", around)
    made = Claiming(
        queue=queue, standby=standing_by(around, queue), affinity=PeerAffinity(queue, peer_wait=0), manager=some,
        intake=some, store=some, watch=some, work=some, settling=some, settled_before=settled_before(around),
        policy=POLICY, clocks=CLOCKS, facts=([] if facts is None else facts).append,
    )  # fmt: skip
    return made, queue


def standing_by(around: Around, queue: BatchQueue[InFlight]) -> Standby:
    around.standby = Standby(queue=queue, manager=cast("Any", around), policy=POLICY, clocks=CLOCKS)
    return around.standby


def settled_before(around: Around) -> SettledBefore:
    some = cast("Any", around)
    standby = around.standby or standing_by(around, BatchQueue())
    return SettledBefore(manager=some, store=some, intake=some, settling=some, standby=standby, clocks=CLOCKS)


def flight(event_id: str = "e", cause: DeadLetterCause | None = None) -> InFlight:
    event = parse(b'{"event_id":"%s","payload":1}' % event_id.encode(), max_bytes=1000)
    return InFlight(event, ClaimRequest(event_id, event.digest), None, 0.0, 0.0, attempts=[], cause=cause)


async def asked(around: Around, one: InFlight) -> tuple[Claiming, list[Fact]]:
    """Claim this one, and stop when the batch was routed."""
    facts: list[Fact] = []
    made, queue = claiming(around, facts)
    queue.put(one)
    running = asyncio.create_task(made.run())
    async with asyncio.timeout(20):
        await around.over.wait()
        await made.quiet()
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()
    return made, facts


async def test_what_is_won_for_the_first_time_starts():
    around, one = Around(Won(1, 0)), flight()
    _, facts = await asked(around, one)
    assert around.log == [f"claim e, take over {UNHANDLED}", "start e"]
    assert (one.epoch, one.takeovers, one.alone) == (1, 0, 0)
    assert facts == [BatchDone("claim", 1, 0.0), EventsClaimed(["e"])]


async def test_what_is_won_from_a_dead_owner_starts_and_says_so():
    around, one = Around(Won(4, 2, 1)), flight()
    _, facts = await asked(around, one)
    assert around.log[1:] == ["start e"]
    assert (one.epoch, one.takeovers, one.alone) == (4, 2, 1)
    assert facts[1:] == [EventsClaimed(["e"]), EventsTakenOver(["e"])]


@pytest.mark.parametrize(("alone", "condemned"), [(2, False), (3, True), (4, True)])
async def test_what_ended_too_many_owners_alone_is_buried(alone: int, condemned: bool):
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
async def test_what_was_pardoned_is_not_condemned(pardon: str):
    around, one = Around(Won(9, 7, 9), handled=True), flight()
    made, _ = claiming(around)
    setattr(one, pardon, True)
    assert not made._condemned(one)


async def test_what_is_doomed_is_buried_once_it_is_won():
    around, cause = Around(Won(1, 0)), DeadLetterCause("invalid", "receive")
    await asked(around, flight(cause=cause))
    assert around.log[1:] == [("e", cause)]


async def test_what_another_holds_stands_by():
    around = Around(Held(5.0, True))
    _, facts = await asked(around, flight())
    assert (around.log[1:], around.standby.count) == ([], 1)
    assert facts[1:] == [EventsStandBy(["e"])]


async def test_what_lapsed_without_a_handler_stands_by_too():
    around = Around(Lapsed(True))
    _, facts = await asked(around, flight())
    assert (around.log[1:], around.standby.count) == ([], 1)
    assert facts[1:] == [EventsStandBy(["e"])]


@pytest.mark.parametrize("answer", [Done(True), Dead(True)])
async def test_what_is_settled_is_a_duplicate(answer: Done | Dead):
    around = Around(answer)
    await asked(around, flight())
    assert around.log[1:] == [("e", DUPLICATE)]


async def test_what_is_won_although_it_is_a_row_is_a_duplicate_and_does_not_start():
    around = Around(Won(1, 0), settled=Done(True))
    await asked(around, flight())
    assert around.log[1:] == [("e", DUPLICATE)]


async def test_what_is_won_although_it_is_a_letter_is_given_back():
    around = Around(Won(1, 0), settled=Dead(True))
    await asked(around, flight())
    assert around.log[1:] == ["release e", ("e", DUPLICATE)]


# -- the same id, and perhaps other content -------------------------------------------------------


async def test_the_same_bytes_are_a_duplicate_and_nothing_is_compared():
    around = Around(Won(1, 0))
    await settled_before(around).end([(flight(), True)])
    assert around.log == [("e", DUPLICATE)]


async def test_other_bytes_of_the_same_value_are_a_duplicate():
    around = Around(Won(1, 0), same=True)
    await settled_before(around).end([(flight(), False)])
    assert around.log == ["compare e", ("e", DUPLICATE)]


async def test_what_is_doomed_anyhow_conflicts_with_nothing():
    around = Around(Won(1, 0), same=False)
    await settled_before(around).end([(flight(cause=DeadLetterCause("invalid", "receive")), False)])
    assert around.log == [("e", DUPLICATE)]


def assert_conflict(one: InFlight, log: Sequence[object]) -> None:
    assert log == ["release e", ("rename", "e", conflict_claim(one.event))]
    assert one.cause == DeadLetterCause("conflict", "claim")
    (failure,) = one.attempts
    assert (failure.at, failure.stage, failure.error_class) == (12.0, "claim", "permanent")
    assert failure.message == CONFLICT


async def test_other_content_is_a_conflict_under_a_name_of_its_own():
    around, one = Around(Won(1, 0), same=False), flight()
    await settled_before(around).end([(one, False)])
    assert around.log.pop(0) == "compare e"
    assert_conflict(one, around.log)


async def test_content_that_the_table_refuses_is_a_conflict():
    around, one = Around(Won(1, 0), same=Permanent("22003: out of range")), flight()
    await settled_before(around).end([(one, False)])
    assert around.log.pop(0) == "compare e"
    assert_conflict(one, around.log)


async def test_what_cannot_be_compared_now_stands_by():
    around = Around(Won(1, 0), same=Transient("away"))
    await settled_before(around).end([(flight("e"), False), (flight("f"), False)])
    assert around.log == ["compare e", "compare f"]
    assert around.standby.count == 2


async def test_a_letter_of_the_same_content_ends_what_is_held_as_a_duplicate():
    around = Around(Won(1, 0))
    await settled_before(around).end_buried(flight(), same=True)
    assert around.log == ["release e", ("e", DUPLICATE)]


async def test_a_letter_of_other_content_ends_what_is_held_as_a_conflict():
    around, one = Around(Won(1, 0)), flight()
    await settled_before(around).end_buried(one, same=False)
    assert_conflict(one, around.log)


async def test_a_letter_of_other_content_ends_what_is_doomed_anyhow_as_a_duplicate():
    around, one = Around(Won(1, 0)), flight(cause=DeadLetterCause("conflict", "claim"))
    await settled_before(around).end_buried(one, same=False)
    assert around.log == ["release e", ("e", DUPLICATE)]
