"""Storing: a row at fault ends alone; an outage is waited for; what was given up is looked up once more."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from tests.support.fakes import as_a
from tests.support.rows import AWAY, FakeRows
from tests.support.stages import Ends
from tests.support.stand_ins import flights
from unlost.listener.core.breaker import Breaker
from unlost.listener.core.cause import DeadLetterCause
from unlost.listener.core.claim import Dead, Done
from unlost.listener.core.clocks import Clocks
from unlost.listener.core.errors import Permanent, Transient
from unlost.listener.core.facts import AttemptFailed, Facts
from unlost.listener.pipeline.policy import Policy
from unlost.listener.pipeline.settled_before import SettledBefore
from unlost.listener.pipeline.settling import Settling
from unlost.listener.pipeline.store_watch import StoreWatch
from unlost.listener.pipeline.storing import Storing

POLICY = Policy(insert_attempts=3, insert_delay=0.0)


@contextlib.asynccontextmanager
async def storing_in(rows: FakeRows, facts: Facts = lambda _: None) -> AsyncIterator[tuple[Storing, Ends]]:
    ends, clock = Ends(), asyncio.get_running_loop().time
    breaker = Breaker("postgres", fail_max=2, reset_seconds=1, facts=facts)
    clocks = Clocks(clock, clock)
    watch = StoreWatch(store=rows, breaker=breaker, clocks=clocks, facts=facts, rng=lambda: 0.0)
    storing = Storing(
        store=rows, breaker=breaker, watch=watch, settling=as_a(Settling, ends),
        settled_before=as_a(SettledBefore, ends), policy=POLICY, clocks=clocks, facts=facts,
    )  # fmt: skip
    running = [asyncio.create_task(one.run()) for one in (watch, storing)]
    async with asyncio.timeout(20):
        yield storing, ends
    for task in running:
        task.cancel()
    await asyncio.wait(running)
    assert all(task.cancelled() for task in running)


@pytest.mark.parametrize(
    ("error", "cause", "attempts"),
    [
        (Transient("hangs"), DeadLetterCause("exhausted", "store"), 3),
        (Permanent("refused"), DeadLetterCause("rejected", "store"), 1),
    ],
)
async def test_a_row_at_fault_ends_alone_after_its_attempts(error: Exception, cause: DeadLetterCause, attempts: int):
    rows, ids = FakeRows(), [f"e{number}" for number in range(20)]
    rows.refused["e7"] = error
    batch = flights(*ids)
    async with storing_in(rows) as (storing, ends):
        storing.put_all(batch)
        await ends.until(20)
        assert ends.buried == {"e7": cause}
        assert sorted(ends.ids) == sorted(set(ids) - {"e7"})
    assert [len(flight.attempts) for flight in batch] == [attempts if id_ == "e7" else 0 for id_ in ids]


@pytest.mark.parametrize("error", [Transient("hangs"), Permanent("refused")])
@pytest.mark.parametrize("others", [[], ["x", "y"]])
async def test_the_first_of_a_run_does_not_answer_for_those_behind_it(error: Exception, others: list[str]):
    rows, shown = FakeRows(), list[AttemptFailed]()
    first, second, third, *more = flights("e1", "e2", "e3", *others)
    for one in (first, second, third):
        one.order_key = "k"
    first.run = [second, third]
    rows.refused["e3"] = error
    async with storing_in(rows, lambda fact: shown.append(fact) if isinstance(fact, AttemptFailed) else None) as (
        storing,
        ends,
    ):
        storing.put_all([first, *more])
        await ends.until(1 + len(more))
        assert (ends.ids, ends.buried, ends.waiting) == (["e1", *others], {}, ["e2", "e3"])
    assert first.attempts == []
    assert rows.inserts == [["e1", "e2", "e3", *others], ["e1", *others]]
    assert [(fact.message, fact.retried) for fact in shown] == [(str(error), True)]


async def test_in_an_outage_nothing_is_counted_and_nothing_buried():
    rows, failed = FakeRows(*[AWAY] * 8, None), list[AttemptFailed]()
    batch = flights("a", "b")
    async with storing_in(rows, lambda fact: failed.append(fact) if isinstance(fact, AttemptFailed) else None) as (
        storing,
        ends,
    ):
        storing.put_all(batch)
        await ends.until(2)
        assert (ends.ids, ends.buried) == (["a", "b"], {})
    assert [flight.attempts for flight in batch] == [[], []]
    assert rows.inserts == [["a", "b"], ["a", "b"]], "once when it began, once when it had ended"
    assert [fact.retried for fact in failed] == [True]


async def test_an_attempt_in_an_outage_is_none_of_those_that_a_row_at_fault_has():
    rows = FakeRows()
    rows.refused["a"] = Transient("hangs")
    (a,) = flights("a")
    async with storing_in(rows) as (storing, ends):
        rows.answers = [*[AWAY] * 3, None]
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
async def test_an_event_given_up_ends_by_what_the_table_holds(
    answer: Done | Dead, settled: list[tuple[str, bool]], dead: list[tuple[str, bool]]
):
    """An event whose id is taken by other content is no duplicate: it would vanish."""
    rows = FakeRows()
    rows.settles["a"] = answer
    async with storing_in(rows) as (storing, ends):
        await storing.give_up(flights("a")[0], "handle")
        assert (ends.settled, ends.dead, ends.buried, ends.ids) == (settled, dead, {}, [])


async def test_nothing_is_buried_before_the_table_has_answered():
    rows = FakeRows(*[AWAY] * 5, None)
    async with storing_in(rows) as (storing, ends):
        await storing.give_up(flights("a")[0], "handle")
        assert ends.buried == {"a": DeadLetterCause("exhausted", "handle")}
        assert rows.answers == [None]
