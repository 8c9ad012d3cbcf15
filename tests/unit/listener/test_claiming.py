"""Claiming when the table does not answer: claims that were won fill all room, and must not be waited for."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

from unlost.listener.claims.manager import ClaimManager
from unlost.listener.core.batch_queue import BatchQueue
from unlost.listener.core.claim import Answer, ClaimRequest, Dead, Done, Lapsed, Won
from unlost.listener.core.clocks import Clocks
from unlost.listener.core.errors import Transient
from unlost.listener.core.in_flight import InFlight
from unlost.listener.pipeline.claiming import Claiming
from unlost.listener.pipeline.peers.affinity import PeerAffinity
from unlost.listener.pipeline.policy import Policy
from unlost.listener.pipeline.settled_before import SettledBefore
from unlost.listener.pipeline.standby import Standby

POLICY = Policy()


class Room:
    """Stands in for the claim manager and its leases. Claims that it grants stay held."""

    open = True

    def __init__(self) -> None:
        self.ids: set[str] = set()
        self.leases = self

    def __len__(self) -> int:
        return len(self.ids)

    async def wait_open(self) -> None:
        """Always open."""

    async def wait_below(self, limit: int) -> None:
        if len(self.ids) >= limit:
            await asyncio.Event().wait()

    async def claim(self, requests: Sequence[ClaimRequest], **_: object) -> list[Answer]:
        self.ids |= {request.event_id for request in requests}
        return [Won(1, 0) for _ in requests]


class Watch:
    """Of the outages."""

    async def counts(self, *_: object) -> bool:
        return True


class Table:
    """Away for the first question."""

    def __init__(self) -> None:
        self.asked = 0

    async def settled(self, requests: Sequence[ClaimRequest]) -> dict[str, Done | Dead]:
        self.asked += 1
        if self.asked == 1:
            raise Transient("PostgreSQL is away")
        return {}


class Work:
    """Keeps what was begun."""

    handled = True
    must_look_before = True

    def __init__(self, enough: int) -> None:
        self.begun: list[Any] = []
        self.enough = asyncio.Event()
        self._count = enough

    def start_all(self, flights: Sequence[Any]) -> None:
        self.begun += flights
        if len(self.begun) >= self._count:
            self.enough.set()


class Ends:
    """Hears of events, and does nothing."""

    def report_received(self) -> None:
        """Report nothing."""

    def done(self, ended: Sequence[object]) -> None:
        """Nothing ends here."""


class Event:
    """A passage, as far as claiming looks at one."""

    cause = None
    revive = of_peer = False
    takeovers = alone = epoch = asked = 0

    def __init__(self, event_id: str) -> None:
        self.event_id = self.claim_id = event_id
        self.event = self
        self.request = ClaimRequest(event_id, b"")


def claiming_of(ids: Sequence[str], work: Work, manager: Room) -> Claiming:
    queue = cast("BatchQueue[InFlight]", BatchQueue())
    queue.put_all(cast("list[InFlight]", [Event(id_) for id_ in ids]))
    some, ends, store = cast("ClaimManager", manager), cast("Any", Ends()), cast("Any", Table())
    clocks = Clocks(time.time, time.monotonic)
    standby = Standby(queue=queue, manager=some, policy=POLICY, clocks=clocks)
    settled_before = SettledBefore(
        manager=some, store=store, intake=ends, settling=ends, standby=standby, clocks=clocks
    )
    return Claiming(
        queue=queue, standby=standby, affinity=PeerAffinity(queue, peer_wait=0), manager=some, intake=ends,
        store=store, watch=cast("Any", Watch()), work=cast("Any", work), settling=ends, settled_before=settled_before,
        policy=POLICY, clocks=clocks, facts=lambda _: None,
    )  # fmt: skip


class Alone(Work):
    """Writes down when nothing else runs any more, and what is begun then."""

    must_look_before = False

    def __init__(self, enough: int) -> None:
        super().__init__(enough)
        self.log: list[str] = []

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        self.log.append("alone")
        yield
        self.log.append("not alone")

    def start_suspects(self, flights: Sequence[Any]) -> None:
        self.log.append(f"{len(flights)} begin")
        self.start_all(flights)

    async def idle_of_suspects(self) -> None:
        self.log.append("settled")


class Lapses(Room):
    """Everything has lapsed; what is taken over is written down."""

    def __init__(self, log: list[str]) -> None:
        super().__init__()
        self.log = log

    async def claim(self, requests: Sequence[ClaimRequest], *, take_over: int, **_: object) -> list[Answer]:
        if not take_over:
            return [Lapsed(True) for _ in requests]
        assert take_over == len(requests)
        self.log.append(f"{take_over} claimed")
        return [Won(2, 1) for _ in requests]


async def test_suspects_are_claimed_once_nothing_else_runs_any_more():
    """Claimed before, they would be held alone by a process that something else may kill."""
    work = Alone(5)
    running = asyncio.create_task(claiming_of("abcde", work, Lapses(work.log)).run())
    async with asyncio.timeout(20):
        await work.enough.wait()
    await asyncio.sleep(0)
    running.cancel()
    await asyncio.wait([running])
    told = [f"alone, {n} claimed, {n} begin, settled, not alone" for n in (3, 2)]
    assert ", ".join(work.log).startswith(", ".join(told)[: -len(", settled, not alone")])


async def test_a_batch_that_fills_all_room_begins_once_the_table_answers_again():
    full = POLICY.claims_wait_below(handled=True)
    work = Work(full)
    running = asyncio.create_task(claiming_of([f"e{number}" for number in range(full)], work, Room()).run())
    async with asyncio.timeout(20):
        await work.enough.wait()
    running.cancel()
    await asyncio.wait([running])
    assert [one.event_id for one in work.begun] == [f"e{number}" for number in range(full)]
