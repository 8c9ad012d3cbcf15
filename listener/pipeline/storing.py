"""Storing: rows in batches. A batch that fails on its data is split until the bad row stands alone."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Protocol, assert_never

from listener.attempts import further
from listener.breaker import Breaker
from listener.claims.port import Dead, Done
from listener.errors import Permanent, Transient, failure_of
from listener.facts import BatchDone, Facts, failed_attempt
from listener.pipeline.inbox import Inbox
from listener.pipeline.intake import Clocks
from listener.pipeline.passage import DUPLICATE, STORED, Doom, Duplicate, Passage, Stage, Stored
from listener.pipeline.policy import Policy
from listener.pipeline.settling import Settling
from listener.store import events as rows
from listener.store.port import Rows

WORKERS = 3
"""Batches under way at once: one is sent while another's reply is read."""


class Buried(Protocol):
    """Ends an event that is to be stored, and turns out to be a dead letter, of the same content or not."""

    async def __call__(self, passage: Passage, *, same: bool) -> None:
        """End it."""


class Storing:
    """Inserts what is put, and reports each row's end."""

    def __init__(
        self,
        *,
        store: Rows,
        breaker: Breaker,
        settling: Settling,
        policy: Policy,
        clocks: Clocks,
        facts: Facts,
    ) -> None:
        self._inbox: Inbox[Passage] = Inbox()
        self._store = store
        self._breaker = breaker
        self._settling = settling
        self._policy = policy
        self._clocks = clocks
        self._facts = facts
        self.on_conflict: Callable[[Passage], Awaitable[None]]
        self.on_buried: Buried

    def put_all(self, passages: Iterable[Passage]) -> None:
        """Have these rows inserted."""
        self._inbox.put_all(passages)

    async def run(self) -> None:
        """Store until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for number in range(WORKERS):
                tasks.create_task(self._store_for_ever(), name=f"store {number}")

    async def _store_for_ever(self) -> None:
        while True:
            await self._store_batch(await self._inbox.take(self._policy.batch))

    async def _store_batch(self, batch: Sequence[Passage]) -> None:
        started = self._clocks.monotonic()
        try:
            try:
                await self._insert(batch)
            except Transient as error:
                await self._insert_again(batch, error)
        except Permanent as error:
            if len(batch) > 1:
                middle = len(batch) // 2
                await self._store_batch(batch[:middle])
                await self._store_batch(batch[middle:])
            else:
                self.failed(batch, error, retried=False)
                self._settling.bury(batch[0], Doom("rejected", "store"))
        except Transient:
            await self.give_up(batch, "store")
        else:
            self._facts(BatchDone("store", len(batch), self._clocks.monotonic() - started))

    async def _insert_again(self, batch: Sequence[Passage], first: Transient) -> None:
        await further(
            lambda _: self._insert(batch),
            first,
            count=self._policy.insert_attempts,
            delay=self._policy.insert_delay,
            failed=lambda error, retried: self.failed(batch, error, retried=retried),
        )

    async def _insert(self, batch: Sequence[Passage]) -> None:
        new = [rows.NewRow(p.event, p.epoch, len(p.attempts) + 1, p.received_at) for p in batch]
        try:
            results = await self._store.insert(new)
        except Transient:
            self._breaker.failed(self._clocks.monotonic())
            raise
        self._breaker.succeeded()
        if results.count(rows.STORED) == len(results):
            self._settling.done([(passage, STORED) for passage in batch])
        else:
            await self.stored(batch, results)

    async def stored(self, batch: Sequence[Passage], results: Sequence[rows.Result]) -> None:
        """Report what the table said."""
        ended: list[tuple[Passage, Stored | Duplicate]] = []
        conflicts: list[Passage] = []
        for passage, result in zip(batch, results, strict=True):
            match result:
                case rows.Stored():
                    ended.append((passage, STORED))
                case rows.Duplicate():
                    ended.append((passage, DUPLICATE))
                case rows.Conflict():
                    conflicts.append(passage)
                case Dead(same):
                    await self.on_buried(passage, same=same)
                case _:
                    assert_never(result)
        self._settling.done(ended)
        for passage in conflicts:
            await self.on_conflict(passage)

    async def give_up(self, batch: Sequence[Passage], stage: Stage) -> None:
        """All attempts are used up. What was lost may have been replies, not rows: the table is asked once more."""
        try:
            settled = await self._store.settled([passage.ask for passage in batch])
        except Transient:
            settled = {}
        for passage in batch:
            match settled.get(passage.claim_id):
                case Done(same=True):
                    self._settling.done([(passage, DUPLICATE)])
                case Dead(same):
                    await self.on_buried(passage, same=same)
                case _:
                    self._settling.bury(passage, Doom("exhausted", stage))

    def failed(self, batch: Sequence[Passage], error: Transient | Permanent, *, retried: bool) -> None:
        """Keep the failed attempt with each event that shared it."""
        failure = failure_of(error, stage="store", at=self._clocks.now())
        for passage in batch:
            passage.attempts.append(failure)
        event_id = batch[0].event.event_id if len(batch) == 1 else None
        self._facts(failed_attempt(failure, retried=retried, count=len(batch), event_id=event_id))
