"""Claiming when the table does not answer: claims that were won fill all room, and must not be waited for."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any, cast

from tests.support.claims import FakeManager
from tests.support.rows import AWAY, FakeRows
from tests.support.stages import Ends, FakeIntake, FakeWork
from tests.support.stand_ins import Watch, flights
from unlost.listener.core.batch_queue import BatchQueue
from unlost.listener.core.claim import Lapsed, Won
from unlost.listener.core.clocks import Clocks
from unlost.listener.core.in_flight import InFlight
from unlost.listener.pipeline.claiming import Claiming
from unlost.listener.pipeline.peers.affinity import PeerAffinity
from unlost.listener.pipeline.policy import Policy
from unlost.listener.pipeline.settled_before import SettledBefore
from unlost.listener.pipeline.standby import Standby
from unlost.listener.pipeline.suspects import Suspects

POLICY = Policy()


def claiming_of(ids: Sequence[str], work: FakeWork, manager: FakeManager, rows: FakeRows) -> Claiming:
    queue: BatchQueue[InFlight] = BatchQueue()
    queue.put_all(flights(*ids))
    some, ends, intake, store = cast("Any", manager), cast("Any", Ends()), cast("Any", FakeIntake()), cast("Any", rows)
    clocks = Clocks(time.time, time.monotonic)
    standby = Standby(queue=queue, manager=some, policy=POLICY, clocks=clocks)
    settled_before = SettledBefore(
        manager=some, store=store, intake=intake, settling=ends, standby=standby, clocks=clocks
    )
    return Claiming(
        queue=queue, standby=standby, affinity=PeerAffinity(queue, peer_wait=0), manager=some, intake=intake,
        store=store, watch=cast("Any", Watch()), work=cast("Any", work), settling=ends, settled_before=settled_before,
        suspects=Suspects(at_once=POLICY.handle_concurrency), policy=POLICY, clocks=clocks,
        facts=lambda _: None,
    )  # fmt: skip


async def test_suspects_are_claimed_once_nothing_else_runs_any_more():
    """Claimed before, they would be held alone by a process that something else may kill."""
    log: list[object] = []
    manager = FakeManager(answer=lambda take_over: Won(2, 1) if take_over else Lapsed(True), log=log)
    work = FakeWork(log=log)
    running = asyncio.create_task(claiming_of("abcde", work, manager, FakeRows()).run())
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
    running = asyncio.create_task(
        claiming_of([f"e{number}" for number in range(full)], work, FakeManager(), FakeRows(AWAY, None)).run()
    )
    await work.until(full)
    running.cancel()
    await asyncio.wait([running])
    assert work.begun == [f"e{number}" for number in range(full)]
