"""Claiming when the table does not answer: claims that were won fill all room, and must not be waited for."""

import asyncio
import time
from collections.abc import Sequence

import pytest

from tests.support.claims import FakeManager
from tests.support.fakes import as_a
from tests.support.rows import AWAY, FakeRows
from tests.support.stages import Ends, FakeIntake, FakeWork
from tests.support.stand_ins import Watch, flights
from unlost.listener.claims.manager import ClaimManager
from unlost.listener.core.batch_queue import BatchQueue
from unlost.listener.core.claim import Answer, Held, Lapsed, Won
from unlost.listener.core.clocks import Clocks
from unlost.listener.core.in_flight import InFlight
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

POLICY = Policy()


class Noting(PeerAffinity):
    """Keeps which events of peers were won."""

    def __init__(self, queue: BatchQueue[InFlight]) -> None:
        super().__init__(queue, peer_wait=0)
        self.noted: list[list[bool]] = []
        self.changed = asyncio.Event()

    def record_won(self, won: Sequence[bool]) -> None:
        super().record_won(won)
        self.noted.append([*won])
        self.changed.set()


def claiming_of(
    some_flights: Sequence[InFlight], work: FakeWork, manager: FakeManager, rows: FakeRows
) -> tuple[Claiming, Noting]:
    queue: BatchQueue[InFlight] = BatchQueue()
    queue.put_all(some_flights)
    affinity = Noting(queue)
    some, ends, intake, store = manager, Ends(), FakeIntake(), rows
    clocks = Clocks(time.time, time.monotonic)
    standby = Standby(queue=queue, manager=as_a(ClaimManager, some), policy=POLICY, clocks=clocks)
    settled_before = SettledBefore(
        manager=as_a(ClaimManager, some),
        store=store,
        intake=as_a(Intake, intake),
        settling=as_a(Settling, ends),
        standby=standby,
        clocks=clocks,
    )
    claiming = Claiming(
        queue=queue, standby=standby, affinity=affinity, manager=as_a(ClaimManager, some), intake=as_a(Intake, intake),
        store=store, watch=as_a(StoreWatch, Watch()), work=as_a(Work, work), settling=as_a(Settling, ends),
        settled_before=settled_before,
        suspects=Suspects(at_once=POLICY.handle_concurrency), policy=POLICY, clocks=clocks,
        facts=lambda _: None,
    )  # fmt: skip
    return claiming, affinity


async def test_suspects_are_claimed_once_nothing_else_runs_any_more():
    """Claimed before, they would be held alone by a process that something else may kill."""
    log: list[object] = []
    manager = FakeManager(answer=lambda take_over: Won(2, 1) if take_over else Lapsed(True), log=log)
    work = FakeWork(log=log)
    claiming, _ = claiming_of(flights(*"abcde"), work, manager, FakeRows())
    running = asyncio.create_task(claiming.run())
    await work.until(5)
    await asyncio.sleep(0)
    running.cancel()
    await asyncio.wait([running])
    first = ["alone", "claim a b c, take over 3", "start a", "start b", "start c", "settled", "not alone"]
    then = ["alone", "claim d e, take over 2", "start d", "start e"]
    assert log[1 : 1 + len(first + then)] == first + then


async def test_a_batch_that_fills_all_room_begins_once_the_table_answers_again():
    full = POLICY.claims_wait_below(handled=True)
    work = FakeWork(looks=True)
    many = flights(*[f"e{number}" for number in range(full)])
    claiming, _ = claiming_of(many, work, FakeManager(), FakeRows(AWAY, None))
    running = asyncio.create_task(claiming.run())
    await work.until(full)
    running.cancel()
    await asyncio.wait([running])
    assert work.begun == [f"e{number}" for number in range(full)]


@pytest.mark.parametrize(("answer", "won"), [(Won(1, 0), True), (Held(60.0, same=True), False)])
async def test_only_first_requests_for_events_of_peers_show_whether_a_peer_takes_its_share(answer: Answer, won: bool):
    mine, theirs, again = flights("mine", "theirs", "theirs, asked for again")
    theirs.of_peer = again.of_peer = True
    again.requests = 1
    manager = FakeManager(answer=lambda _: answer)
    claiming, affinity = claiming_of([mine, theirs, again], FakeWork(), manager, FakeRows())
    running = asyncio.create_task(claiming.run())
    async with asyncio.timeout(20):
        await affinity.changed.wait()
    running.cancel()
    await asyncio.wait([running])
    assert affinity.noted == [[won]]
