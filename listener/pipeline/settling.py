"""Settling: the one way out. Rows are told to the claims in batches; letters are on disk before "dead" is told."""

import asyncio
from collections.abc import Callable, Iterable, Sequence

from unlost.dlq.record.letter import UNCLAIMED
from unlost.listener.claims.manager import Desk
from unlost.listener.core.batch_queue import Inbox
from unlost.listener.core.cause import Doom
from unlost.listener.core.clocks import Clocks
from unlost.listener.core.errors import Failure, Transient
from unlost.listener.core.facts import (
    BatchDone,
    DeadLetterHealed,
    DeadLetterTrouble,
    EventBuried,
    EventsDuplicate,
    EventsStored,
    Facts,
)
from unlost.listener.core.in_flight import STORED, Buried, Duplicate, End, Passage, Stored
from unlost.listener.pipeline.intake import Intake
from unlost.listener.ports.dead_letters import Burial, Graveyard

RETRY_SECONDS = 0.5
BATCH = 4_096
OF_THEMSELVES = ("invalid", "conflict")
"""What dooms an event whoever holds it, and is claimed under a name of its own."""
SETTLE_SECONDS = 0.01
"""Between two calls that settle, unless a whole batch waits: the rows can be seen already, nobody waits for this."""


class Settling:
    """Ends passages: as rows or duplicates (``done``), or as dead letters (``bury``)."""

    def __init__(
        self,
        *,
        desk: Desk,
        intake: Intake,
        graveyard: Graveyard,
        written: Callable[[Sequence[Burial]], None],
        clocks: Clocks,
        facts: Facts,
    ) -> None:
        """Make one. ``written`` hears of letters that are on disk."""
        self._desk = desk
        self._written = written
        self._intake = intake
        self._graveyard = graveyard
        self._clocks = clocks
        self._facts = facts
        self._ended: Inbox[tuple[Passage, Stored | Duplicate, str]] = Inbox(spacing=SETTLE_SECONDS)
        self._doomed: Inbox[Passage] = Inbox()
        self._deciding = asyncio.Lock()
        self._closed = False
        self._settled_now: Sequence[tuple[Passage, Stored | Duplicate]] = ()
        self._lettered_now: Sequence[Passage] = ()
        self.on_claim_lost: Callable[[Passage], None] = lambda _: None
        self.trouble = ""

    def done(self, ended: Iterable[tuple[Passage, Stored | Duplicate]]) -> None:
        """These events are rows, ours or somebody's."""
        store = self._desk.store_name
        self._ended.put_all([(passage, end, store) for passage, end in ended])

    def bury(self, passage: Passage, doom: Doom) -> None:
        """The event shall be a dead letter."""
        passage.doom = doom
        self._doomed.put(passage)

    async def run(self) -> None:
        """Settle until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._settle_for_ever(), name="settle")
            tasks.create_task(self._bury_for_ever(), name="bury")

    async def _settle_for_ever(self) -> None:
        while True:
            taken = await self._ended.take(BATCH)
            started = self._clocks.monotonic()
            self._settled_now = batch = [(passage, end) for passage, end, _ in taken]
            await self._tell_done(taken)
            self._intake.finish(batch)
            now = self._clocks.monotonic()
            stored = [passage for passage, end in batch if end is STORED]
            if stored:
                seconds = [now - passage.received_clock for passage in stored]
                self._facts(EventsStored([p.event.event_id for p in stored], seconds))
            if len(stored) < len(batch):
                self._facts(EventsDuplicate([p.event.event_id for p, end in batch if end is not STORED]))
            self._facts(BatchDone("settle", len(batch), now - started))
            await self._vouch()

    async def _tell_done(self, ended: Sequence[tuple[Passage, End, str]]) -> None:
        """Announce to peers only rows of the present store. What was stored in one before it may be lost there."""
        store = self._desk.store_name
        if stale := [passage.ask.event_id for passage, _, stored_in in ended if stored_in != store]:
            await self._desk.release(stale)
        if done := [passage.ask.event_id for passage, _, stored_in in ended if stored_in == store]:
            await self._desk.settle(done, "done")

    async def _bury_for_ever(self) -> None:
        while True:
            batch = await self._doomed.take(BATCH)
            started = self._clocks.monotonic()
            async with self._deciding:
                if self._closed:
                    return  # what is still in memory gets its letter, or has it
                batch = await self._surely_ours(batch)
                written = await self._write(batch)
                self._lettered_now = batch if written else ()
            if not written:
                self._doomed.put_all(batch)
                await asyncio.sleep(RETRY_SECONDS)
                continue
            if not batch:
                continue
            await self._tell_dead([passage.claim_id for passage in batch])
            for passage in batch:
                self._end_buried(passage)
            self._lettered_now = ()
            self._facts(BatchDone("bury", len(batch), self._clocks.monotonic() - started))
            await self._vouch()

    async def bury_rest(self, passages: Sequence[Passage], doom: Doom, failure: Failure, *, seconds: float) -> int:
        """Write letters for what cannot be settled any more; how many got none, since they could not be written.

        Nothing else is buried from here on. No claim is needed: whoever stores such an event resolves its letter.
        """
        until = self._clocks.monotonic() + seconds
        async with self._deciding:
            self._closed = True
            sure = {passage for passage, *_ in (*self._settled_now, *self._ended.waiting())} | {*self._lettered_now}
            left = [passage for passage in passages if passage not in sure and passage.end is None]
            for passage in left:
                passage.doom = doom
                passage.attempts.append(failure)
            while left and (self._clocks.monotonic() < until or not self.trouble):
                if await self._write(left[:BATCH]):
                    for passage in left[:BATCH]:
                        self._end_buried(passage)
                    left = left[BATCH:]
                else:
                    await asyncio.sleep(RETRY_SECONDS)
        return len(left)

    async def _vouch(self) -> None:
        """Peers need not read what is settled. Nothing waits for this, and who stops may leave it undone."""
        if names := self._intake.settled_stretches():
            await self._desk.vouch(names)

    async def _surely_ours(self, batch: list[Passage]) -> list[Passage]:
        """A letter is final, so the claim is confirmed before.

        Who is cut off from where its claims are kept may be taken for dead, and its events be stored by others. It
        waits, until its leases end by its own clock or the way back is found.
        """
        batch = self._still_ours(batch)
        claimed = [passage for passage in batch if self._needs_claim(passage)]
        if not claimed or await self._desk.confirmed([passage.claim_id for passage in claimed]):
            return self._still_ours(batch)
        await asyncio.sleep(RETRY_SECONDS)
        self._doomed.put_all(claimed)
        return [passage for passage in batch if not self._needs_claim(passage)]

    def _still_ours(self, batch: list[Passage]) -> list[Passage]:
        """Whoever lost the claim meanwhile leaves the event to its new owner."""
        ours = []
        for passage in batch:
            if self._needs_claim(passage) and not self._desk.is_held(passage.claim_id):
                if passage.doom is None or passage.doom.reason not in OF_THEMSELVES:
                    passage.doom = None
                    passage.attempts.clear()
                self.on_claim_lost(passage)
            else:
                ours.append(passage)
        return ours

    @staticmethod
    def _needs_claim(passage: Passage) -> bool:
        return passage.doom is None or passage.doom.reason not in UNCLAIMED

    async def _write(self, batch: Sequence[Passage]) -> bool:
        """Nothing is dropped: letters that cannot be written are held, and before the next try confirmed anew."""
        try:
            if batch:
                self._written(await self._graveyard.bury(batch))
        except Transient as error:
            if not self.trouble:
                self._facts(DeadLetterTrouble(str(error)))
            self.trouble = str(error)
            return False
        if self.trouble and not self._doomed:
            self.trouble = ""
            self._facts(DeadLetterHealed())
        return True

    async def _tell_dead(self, claim_ids: Sequence[str]) -> None:
        """Until somebody who is asked can answer "dead", the event is not settled."""
        while not await self._desk.settle(claim_ids, "dead"):  # noqa: ASYNC110  an outage ends without telling us
            await asyncio.sleep(RETRY_SECONDS)

    def _end_buried(self, passage: Passage) -> None:
        doom = passage.doom
        assert doom is not None
        last = passage.attempts[-1]
        self._intake.finish([(passage, Buried(doom.reason))])
        self._facts(EventBuried(passage.event.event_id, doom.reason, last.error_class, last.message, last.error_type))
