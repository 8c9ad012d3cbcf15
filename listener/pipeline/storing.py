"""Storing: rows in batches. A batch that fails while the store accepts rows is split until the faulty row is alone.

While the store accepts no rows, all wait as long as the outage lasts: see ``store_watch``. Attempts are counted only
for a single row.
"""

import asyncio
from collections.abc import Iterable, Sequence
from typing import assert_never

from unlost.listener.core.attempts import Backoff
from unlost.listener.core.batch_queue import BatchQueue
from unlost.listener.core.breaker import Breaker
from unlost.listener.core.cause import DeadLetterCause, Reason, Stage
from unlost.listener.core.claim import Dead, Done
from unlost.listener.core.clocks import Clocks
from unlost.listener.core.errors import NotPermitted, Permanent, Transient
from unlost.listener.core.facts import BatchDone, Facts
from unlost.listener.core.in_flight import DUPLICATE, STORED, Duplicate, InFlight, Stored
from unlost.listener.pipeline.failures import Failures
from unlost.listener.pipeline.policy import Policy
from unlost.listener.pipeline.settled_before import SettledBefore
from unlost.listener.pipeline.settling import Settling
from unlost.listener.pipeline.store_watch import StoreWatch
from unlost.listener.ports import rows
from unlost.listener.ports.rows import Rows

WORKERS = 3
"""How many batches are in progress at once: one is sent while the reply to another is read."""
AGAIN_AT_ONCE = 2
"""How many failed batches and rows are retried at the same time. Rows that hang leave connections for others."""


class Storing:
    """Inserts rows and reports the outcome of each."""

    def __init__(
        self,
        *,
        store: Rows,
        breaker: Breaker,
        watch: StoreWatch,
        settling: Settling,
        settled_before: SettledBefore,
        policy: Policy,
        clocks: Clocks,
        facts: Facts,
    ) -> None:
        self._queue: BatchQueue[InFlight] = BatchQueue()
        self._store = store
        self._breaker = breaker
        self._watch = watch
        self._failures = Failures("store", watch=watch, clocks=clocks, facts=facts)
        self._backoff = Backoff.fixed(policy.insert_attempts, policy.insert_delay)
        self._again = asyncio.Semaphore(AGAIN_AT_ONCE)
        self._tasks: asyncio.TaskGroup
        self._settling = settling
        self._settled_before = settled_before
        self._policy = policy
        self._clocks = clocks
        self._facts = facts

    def put_all(self, flights: Iterable[InFlight]) -> None:
        """Queue these rows for insertion."""
        self._queue.put_all(flights)

    async def run(self) -> None:
        """Store until cancelled."""
        async with asyncio.TaskGroup() as self._tasks:
            for number in range(WORKERS):
                self._tasks.create_task(self._store_for_ever(), name=f"store {number}")

    async def _store_for_ever(self) -> None:
        while True:
            await self._watch.until_taking()
            await self._store_batch(_with_runs(await self._queue.take(self._policy.batch)))

    async def _store_batch(self, batch: Sequence[InFlight]) -> None:
        started = self._clocks.monotonic()
        try:
            await self._insert(batch)
        except (Transient, Permanent) as error:
            rest = self._without_runs(batch)
            if rest is not batch:  # the error may be of one that waits again
                self._failures.report(batch, error, retried=True)
            again = self._store_again(batch, error, started) if rest is batch else self._store_part(rest)
            # In a task of its own, so that a failed batch does not hold up others.
            self._tasks.create_task(again, name="store again")
        else:
            self._facts(BatchDone("store", len(batch), self._clocks.monotonic() - started))

    def _without_runs(self, batch: Sequence[InFlight]) -> Sequence[InFlight]:
        """Let all but the first of each key wait again: parts of a failed batch are stored in any order."""
        firsts: dict[str, InFlight] = {}
        behind = [
            one
            for one in batch
            if not one.revive and one.order_key and firsts.setdefault(one.order_key, one) is not one
        ]
        if not behind:
            return batch
        self._settling.wait_again(behind)
        left = {*behind}
        return [one for one in batch if one not in left]

    async def _store_again(self, batch: Sequence[InFlight], error: Transient | Permanent, began: float) -> None:
        """Store a batch that failed with this error, or find the row at fault."""
        if len(batch) == 1:
            await self._store_alone(batch[0], error, began)
            return
        while not await self._failures.count(batch, error, began):
            if (again := await self._insert_again(batch)) is None:
                return
            error, began = again
        if isinstance(error, Transient):
            self._failures.report(batch, error, retried=True)
        middle = len(batch) // 2
        async with asyncio.TaskGroup() as halves:
            halves.create_task(self._store_part(batch[:middle]))
            halves.create_task(self._store_part(batch[middle:]))

    async def _store_part(self, batch: Sequence[InFlight]) -> None:
        if again := await self._insert_again(batch):
            await self._store_again(batch, *again)

    async def _store_alone(self, flight: InFlight, error: Transient | Permanent, began: float) -> None:
        number = 1
        while following := await self._failures.again(flight, number, error, began, self._backoff):
            number = following.number
            if following.pause is not None:
                await asyncio.sleep(following.pause)
            if (again := await self._insert_again([flight])) is None:
                return
            error, began = again
        if isinstance(error, Permanent):
            self._settling.bury(flight, DeadLetterCause("rejected", "store"))
        else:
            await self.give_up(flight, "store")

    async def _insert_again(self, batch: Sequence[InFlight]) -> tuple[Transient | Permanent, float] | None:
        """Insert again, a few at a time; return the error and when that attempt began, or None."""
        async with self._again:
            began = self._clocks.monotonic()
            try:
                await self._insert(batch)
            except (Transient, Permanent) as error:
                return error, began
        return None

    async def _insert(self, batch: Sequence[InFlight]) -> None:
        new = [row_of(flight) for flight in batch]
        try:
            results = await self._store.insert(new)
        except NotPermitted:  # it answers
            raise
        except Transient as error:
            self._breaker.failed(self._clocks.monotonic(), str(error))
            raise
        self._breaker.succeeded()
        if results.count(rows.INSERTED) == len(results):
            self._settling.done([(flight, STORED) for flight in batch])
        else:
            await self.stored(batch, results)

    async def stored(self, batch: Sequence[InFlight], results: Sequence[rows.Result]) -> None:
        """Report the outcome of each row."""
        if rows.BEHIND in results:  # before those that they follow end
            self._settling.wait_again(
                [one for one, result in zip(batch, results, strict=True) if result == rows.BEHIND]
            )
        ended: list[tuple[InFlight, Stored | Duplicate]] = []
        conflicts: list[InFlight] = []
        for flight, result in zip(batch, results, strict=True):
            match result:
                case rows.Inserted():
                    ended.append((flight, STORED))
                case rows.SameRow():
                    ended.append((flight, DUPLICATE))
                case rows.OtherRow():
                    conflicts.append(flight)
                case Dead(same):
                    await self._settled_before.end_buried(flight, same=same)
                case rows.Behind():
                    continue
                case rows.Blocked():
                    self._settling.bury(flight, DeadLetterCause("blocked", "store"))
                case _:
                    assert_never(result)
        self._settling.done(ended)
        for flight in conflicts:
            await self._settled_before.conflict(flight)

    async def give_up(self, flight: InFlight, stage: Stage, reason: Reason = "exhausted") -> None:
        """End an event that gets no further attempt. The table is queried once more: perhaps only replies were lost."""
        match (await self._settled(flight)).get(flight.claim_id):
            case Done(same):
                await self._settled_before.end([(flight, same)])
            case Dead(same) if not flight.revive:
                await self._settled_before.end_buried(flight, same=same)
            case _:
                self._settling.bury(flight, DeadLetterCause(reason, stage))

    async def _settled(self, flight: InFlight) -> dict[str, Done | Dead]:
        """Query the table. Return nothing if it accepts rows but does not answer this query."""
        counted = 0
        while counted < self._policy.insert_attempts:
            began = self._clocks.monotonic()
            try:
                return await self._store.settled([flight.request])
            except (Transient, Permanent) as error:
                counted += await self._watch.counts(error, began)
        return {}


def _with_runs(batch: Sequence[InFlight]) -> Sequence[InFlight]:
    """Return these, each followed by its run."""
    if not any(flight.run for flight in batch):
        return batch
    whole = [one for flight in batch for one in (flight, *flight.run)]
    for flight in batch:
        flight.run = ()
    return whole


def row_of(flight: InFlight) -> rows.NewRow:
    """Return the row of an event that is stored now."""
    return rows.NewRow(
        flight.event, flight.epoch, len(flight.attempts) + 1, flight.received_at, flight.revive, flight.edited,
        flight.blocking_key,
    )  # fmt: skip
