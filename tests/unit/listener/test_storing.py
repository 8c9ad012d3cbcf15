"""Storing: a row at fault ends alone; an outage is waited for; what was given up is looked up once more."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, cast

import pytest

from unlost.listener.core.breaker import Breaker
from unlost.listener.core.cause import DeadLetterCause
from unlost.listener.core.claim import ClaimRequest, Dead, Done
from unlost.listener.core.clocks import Clocks
from unlost.listener.core.errors import Permanent, Transient
from unlost.listener.core.event import parse
from unlost.listener.core.facts import AttemptFailed, Fact
from unlost.listener.core.in_flight import InFlight
from unlost.listener.pipeline.frames import flight_of
from unlost.listener.pipeline.policy import Policy
from unlost.listener.pipeline.store_watch import StoreWatch
from unlost.listener.pipeline.storing import Storing
from unlost.listener.ports.rows import STORED, NewRow, Result

POLICY = Policy(insert_attempts=3, insert_delay=0.0)


class Rows:
    """A table whose inserts, probes and looks fail as told."""

    def __init__(self) -> None:
        self.inserts: list[list[str]] = []
        self.bad: dict[str, Exception] = {}
        self.away = 0
        self.settles: dict[str, Done | Dead] = {}

    async def insert(self, new: Sequence[NewRow]) -> list[Result]:
        ids = [row.event.event_id for row in new]
        self.inserts.append(ids)
        await self.probe()
        for event_id in ids:
            if event_id in self.bad:
                raise self.bad[event_id]
        return [STORED] * len(ids)

    async def probe(self) -> None:
        await asyncio.sleep(0)
        if self.away:
            self.away -= 1
            raise Transient("away")

    async def settled(self, requests: Sequence[ClaimRequest]) -> dict[str, Done | Dead]:
        await self.probe()
        return {
            request.event_id: self.settles[request.event_id] for request in requests if request.event_id in self.settles
        }


class Ends:
    """Where passages end: as rows, as letters, or looked at elsewhere."""

    def __init__(self) -> None:
        self.stored: list[str] = []
        self.buried: dict[str, DeadLetterCause] = {}
        self.settled: list[tuple[str, bool]] = []
        self.dead: list[tuple[str, bool]] = []
        self._changed = asyncio.Event()

    def done(self, ended: Sequence[tuple[InFlight, object]]) -> None:
        self.stored += [flight.claim_id for flight, _ in ended]
        self._changed.set()

    def bury(self, flight: InFlight, cause: DeadLetterCause) -> None:
        self.buried[flight.claim_id] = cause
        self._changed.set()

    async def end(self, ended: Sequence[tuple[InFlight, bool]]) -> None:
        self.settled += [(flight.claim_id, same) for flight, same in ended]
        self._changed.set()

    async def end_buried(self, flight: InFlight, *, same: bool) -> None:
        self.dead.append((flight.claim_id, same))
        self._changed.set()

    async def until(self, count: int) -> None:
        while len(self.stored) + len(self.buried) + len(self.settled) + len(self.dead) < count:
            self._changed.clear()
            await self._changed.wait()


@contextlib.asynccontextmanager
async def storing_in(rows: Rows, facts: Callable[[Fact], None] = lambda _: None) -> AsyncIterator[tuple[Storing, Ends]]:
    ends, clock = Ends(), asyncio.get_running_loop().time
    breaker = Breaker("postgres", fail_max=2, reset_seconds=1, facts=facts)
    clocks = Clocks(clock, clock)
    watch = StoreWatch(store=cast("Any", rows), breaker=breaker, clocks=clocks, facts=facts, dice=lambda: 0.0)
    storing = Storing(
        store=cast("Any", rows), breaker=breaker, watch=watch, settling=cast("Any", ends),
        settled_before=cast("Any", ends), policy=POLICY, clocks=clocks, facts=facts,
    )  # fmt: skip
    running = [asyncio.create_task(one.run()) for one in (watch, storing)]
    async with asyncio.timeout(20):
        yield storing, ends
    for task in running:
        task.cancel()
    await asyncio.wait(running)
    assert all(task.cancelled() for task in running)


def flights(*ids: str) -> list[InFlight]:
    frames = [f'{{"event_id": "{id_}", "payload": 1}}'.encode() for id_ in ids]
    return [flight_of(parse(frame, max_bytes=100), frame, None, 0.0, 0.0) for frame in frames]


@pytest.mark.parametrize(
    ("error", "cause", "attempts"),
    [
        (Transient("hangs"), DeadLetterCause("exhausted", "store"), 3),
        (Permanent("refused"), DeadLetterCause("rejected", "store"), 1),
    ],
)
async def test_a_row_at_fault_ends_alone_after_its_attempts(error: Exception, cause: DeadLetterCause, attempts: int):
    rows, ids = Rows(), [f"e{number}" for number in range(20)]
    rows.bad["e7"] = error
    batch = flights(*ids)
    async with storing_in(rows) as (storing, ends):
        storing.put_all(batch)
        await ends.until(20)
        assert ends.buried == {"e7": cause}
        assert sorted(ends.stored) == sorted(set(ids) - {"e7"})
    assert [len(flight.attempts) for flight in batch] == [attempts if id_ == "e7" else 0 for id_ in ids]


async def test_in_an_outage_nothing_is_counted_and_nothing_buried():
    rows, failed = Rows(), list[AttemptFailed]()
    rows.away = 8
    batch = flights("a", "b")
    async with storing_in(rows, lambda fact: failed.append(fact) if isinstance(fact, AttemptFailed) else None) as (
        storing,
        ends,
    ):
        storing.put_all(batch)
        await ends.until(2)
        assert (ends.stored, ends.buried) == (["a", "b"], {})
    assert [flight.attempts for flight in batch] == [[], []]
    assert rows.inserts == [["a", "b"], ["a", "b"]], "once when it began, once when it had ended"
    assert [fact.retried for fact in failed] == [True]


async def test_an_attempt_in_an_outage_is_none_of_those_that_a_row_at_fault_has():
    rows = Rows()
    rows.bad["a"] = Transient("hangs")
    (a,) = flights("a")
    async with storing_in(rows) as (storing, ends):
        rows.away = 3
        storing.put_all([a])
        await ends.until(1)
    assert (len(a.attempts), len(rows.inserts)) == (3, 4)


@pytest.mark.parametrize(
    ("answer", "settled", "dead"),
    [
        (Done(same=True), [("a", True)], []),
        (Done(same=False), [("a", False)], []),
        (Dead(same=True), [], [("a", True)]),
        (Dead(same=False), [], [("a", False)]),
    ],
)
async def test_what_turns_out_to_be_settled_ends_by_what_the_table_holds(
    answer: Done | Dead, settled: list[tuple[str, bool]], dead: list[tuple[str, bool]]
):
    """An event whose id is taken by other content is no duplicate: it would vanish."""
    rows = Rows()
    rows.settles["a"] = answer
    async with storing_in(rows) as (storing, ends):
        await storing.give_up(flights("a")[0], "handle")
        assert (ends.settled, ends.dead, ends.buried, ends.stored) == (settled, dead, {}, [])


async def test_nothing_is_buried_before_the_table_has_answered():
    rows = Rows()
    rows.away = 5
    async with storing_in(rows) as (storing, ends):
        await storing.give_up(flights("a")[0], "handle")
        assert ends.buried == {"a": DeadLetterCause("exhausted", "handle")}
        assert rows.away == 0
