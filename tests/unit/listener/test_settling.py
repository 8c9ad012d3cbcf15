"""A letter is final: it is written once the claim is confirmed, and never by a listener whose claim is lost."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any, cast

import pytest

from tests.support.stages import Returned
from unlost.listener.claims.manager import ClaimManager
from unlost.listener.core.cause import DeadLetterCause, Reason
from unlost.listener.core.claim import ClaimRequest, Verdict
from unlost.listener.core.clocks import Clocks
from unlost.listener.core.errors import Transient
from unlost.listener.core.facts import DeadLetterFileRecovered, EventBuried, Fact, Facts
from unlost.listener.core.in_flight import STORED, InFlight
from unlost.listener.pipeline.settling import Settling
from unlost.listener.ports.dead_letters import Burial


class CutOff:
    """For the manager and its leases: some questions get no answer, and claims in ``gone`` were lost meanwhile."""

    def __init__(self, questions: int, gone: set[str]) -> None:
        self.unanswered = questions
        self.gone = gone
        self.leases = self.known_store = self
        self.told: list[tuple[str, ...]] = []
        self.announced: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()

    async def confirmed(self, event_ids: Sequence[str]) -> bool:
        self.unanswered -= 1
        return self.unanswered < 0

    def is_held(self, event_id: str) -> bool:
        return self.unanswered >= 0 or event_id not in self.gone

    async def settle(self, event_ids: Sequence[str], verdict: Verdict) -> bool:
        self.told.append((*event_ids, verdict))
        return True

    name = ""

    async def announce_settled(self, names: Sequence[ClaimRequest]) -> None:
        self.announced.set_result([name.event_id for name in names])
        await asyncio.get_running_loop().create_future()  # Redis does not answer


class Yard:
    """Records when a letter was written."""

    def __init__(self, enough: int) -> None:
        self.buried: list[str] = []
        self.enough = asyncio.Event()
        self._count = enough

    async def bury(self, flights: Sequence[InFlight]) -> Sequence[Burial]:
        self.buried += [flight.claim_id for flight in flights]
        if len(self.buried) >= self._count:
            self.enough.set()
        return []


class FullYard(Yard):
    """Has no room the first time. Events that others have won by then are reported to the claim manager."""

    def __init__(self, enough: int, manager: CutOff, taken: set[str]) -> None:
        super().__init__(enough)
        self._manager, self._taken = manager, taken

    async def bury(self, flights: Sequence[InFlight]) -> Sequence[Burial]:
        if self._taken:
            self._manager.gone |= self._taken
            self._taken = set()
            raise Transient("no room")
        return await super().bury(flights)


class Event:
    """A stand-in for ``InFlight``, as far as burying reads it."""

    def __init__(self, event_id: str) -> None:
        self.event_id = self.claim_id = event_id
        self.event = self
        self.cause: DeadLetterCause | None = None
        self.attempts = [self]
        self.error_class, self.error_type, self.message = "transient", "Trouble", "it failed"
        self.request = ClaimRequest(event_id, b"")
        self.received_clock = 0.0


class Out:
    """The events that ended, each as a segment of its own."""

    def __init__(self) -> None:
        self._settled: list[ClaimRequest] = []

    def finish(self, ended: Sequence[tuple[InFlight, object]]) -> None:
        self._settled += [ClaimRequest(f"segment of {flight.claim_id}", b"") for flight, _ in ended]

    def settled_segments(self) -> list[ClaimRequest]:
        names, self._settled = self._settled, []
        return names


async def buried(
    manager: CutOff,
    causes: dict[str, DeadLetterCause],
    enough: int,
    yard: Yard | None = None,
    facts: Facts = lambda _: None,
) -> tuple[list[str], list[str]]:
    yard, standby = yard or Yard(enough), Returned()
    settling = Settling(
        manager=cast("ClaimManager", manager), standby=cast("Any", standby), intake=cast("Any", Out()), sink=yard,
        written=lambda _: None, clocks=Clocks(time.time, time.monotonic), facts=facts,
    )  # fmt: skip
    for event_id, cause in causes.items():
        settling.bury(cast("InFlight", Event(event_id)), cause)
    running = asyncio.create_task(settling.run())
    async with asyncio.timeout(20):
        await yard.enough.wait()
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()
    return yard.buried, [standby.lost.get_nowait().claim_id for _ in range(standby.lost.qsize())]


EXHAUSTED = DeadLetterCause("exhausted", "store")


async def test_who_is_cut_off_writes_no_letter_before_the_claim_is_confirmed():
    manager = CutOff(2, gone={"taken"})
    assert await buried(manager, {"mine": EXHAUSTED, "taken": EXHAUSTED}, 1) == (["mine"], ["taken"])
    assert manager.unanswered < 0


async def test_what_waited_for_room_on_the_disk_is_confirmed_again():
    manager = CutOff(0, gone=set())
    yard = FullYard(1, manager, {"taken"})
    assert await buried(manager, {"mine": EXHAUSTED, "taken": EXHAUSTED}, 1, yard) == (["mine"], ["taken"])


async def test_a_full_disk_is_no_error_when_nothing_waits_for_it_any_more():
    manager, told = CutOff(0, gone=set()), list[str]()
    yard = FullYard(1, manager, {"taken"})

    def hear(fact: Fact) -> None:
        told.append(type(fact).__name__)
        if isinstance(fact, DeadLetterFileRecovered):
            yard.enough.set()

    assert await buried(manager, {"taken": EXHAUSTED}, 1, yard, hear) == ([], ["taken"])
    assert told == ["DeadLetterFileFailed", "DeadLetterFileRecovered"]


@pytest.mark.parametrize("reason", ["invalid", "conflict"])
async def test_what_is_doomed_whoever_holds_it_still_says_why(reason: Reason):
    manager, event, standby = CutOff(0, gone={"taken"}), cast("InFlight", Event("taken")), Returned()
    settling = Settling(
        manager=cast("ClaimManager", manager), standby=cast("Any", standby), intake=cast("Any", Out()), sink=Yard(1),
        written=lambda _: None, clocks=Clocks(time.time, time.monotonic), facts=lambda _: None,
    )  # fmt: skip
    settling.bury(event, DeadLetterCause(reason, "receive"))
    running = asyncio.create_task(settling.run())
    async with asyncio.timeout(20):
        assert await standby.lost.get() is event
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()
    assert event.cause == DeadLetterCause(reason, "receive")
    assert event.attempts


async def test_what_is_claimed_by_nobody_waits_for_nobody():
    manager = CutOff(10**6, gone=set())
    assert await buried(manager, {"mine": EXHAUSTED, "beyond": DeadLetterCause("overflow", "receive")}, 1) == (
        ["beyond"],
        [],
    )


@pytest.mark.parametrize("verdict", ["done", "dead"])
async def test_peers_are_told_of_what_is_settled_after_everybody_else(verdict: Verdict):
    manager, facts = CutOff(0, gone=set()), list[Fact]()
    settling = Settling(
        manager=cast("ClaimManager", manager), standby=cast("Any", Returned()), intake=cast("Any", Out()), sink=Yard(1),
        written=lambda _: None, clocks=Clocks(time.time, time.monotonic), facts=facts.append,
    )  # fmt: skip
    event = cast("InFlight", Event("e"))
    if verdict == "done":
        settling.done([(event, STORED)])
    else:
        settling.bury(event, EXHAUSTED)
    running = asyncio.create_task(settling.run())
    async with asyncio.timeout(20):
        assert await manager.announced == ["segment of e"]
    assert manager.told == [("e", verdict)]
    if verdict == "dead":
        assert facts[0] == EventBuried("e", "exhausted", "transient", "it failed", "Trouble")
    told = [type(fact).__name__ for fact in facts]
    assert told == ["EventsStored" if verdict == "done" else "EventBuried", "BatchDone"]
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()
