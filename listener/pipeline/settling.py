"""Settling: the only exit. Rows are settled as "done" in batches; a letter is on disk before its claim is "dead"."""

import asyncio
from collections.abc import Callable, Sequence

from unlost.listener.claims.manager import ClaimManager
from unlost.listener.core.batch_queue import BatchQueue
from unlost.listener.core.cause import UNCLAIMED, DeadLetterCause
from unlost.listener.core.clocks import Clocks
from unlost.listener.core.errors import Failure, Transient
from unlost.listener.core.facts import (
    BatchDone,
    DeadLetterFileFailed,
    DeadLetterFileRecovered,
    EventBuried,
    EventsDuplicate,
    EventsStored,
    Facts,
    OrderGivenUp,
)
from unlost.listener.core.in_flight import STORED, Buried, Duplicate, End, InFlight, Stored
from unlost.listener.pipeline.intake import Intake
from unlost.listener.pipeline.standby import Standby
from unlost.listener.ports.dead_letters import Burial, DeadLetterSink

RETRY_SECONDS = 0.5
BATCH = 4_096
SETTLE_SECONDS = 0.01
"""The pause between two settling calls, unless a full batch waits. Nobody waits for it: rows are visible already."""
UNTRIED = Failure(0.0, "claim", "transient", "Blocked", "an earlier event of the same key is a dead letter")
"""The failure in the letter of an event that was parked behind another letter, without an attempt."""


class Settling:
    """Ends events in flight: as rows or duplicates (``done``), or as dead letters (``bury``)."""

    def __init__(
        self,
        *,
        manager: ClaimManager,
        standby: Standby,
        intake: Intake,
        sink: DeadLetterSink,
        written: Callable[[Sequence[Burial]], None],
        clocks: Clocks,
        facts: Facts,
    ) -> None:
        """Make one. ``written`` is called with letters that are on disk."""
        self._manager = manager
        self._standby = standby
        self._written = written
        self._intake = intake
        self._sink = sink
        self._clocks = clocks
        self._facts = facts
        self._ended: BatchQueue[tuple[InFlight, Stored | Duplicate, str]] = BatchQueue(spacing=SETTLE_SECONDS)
        self._to_bury: BatchQueue[InFlight] = BatchQueue()
        self._unregistered: dict[str, InFlight] = {}
        """Events with a key whose letters are on disk, by letter. They are settled once PostgreSQL blocks the key."""
        self._registered: BatchQueue[InFlight] = BatchQueue()
        self._deciding = asyncio.Lock()
        self._closed = False
        self._settled_now: Sequence[tuple[InFlight, Stored | Duplicate]] = ()
        self._lettered_now: Sequence[InFlight] = ()
        self._ending: Sequence[InFlight] = ()
        self.error = ""

    def done(self, ended: Sequence[tuple[InFlight, Stored | Duplicate]]) -> None:
        """End these events. Their rows exist, written by this listener or another."""
        store = self._manager.known_store.name
        # Each with the store of this moment: if PostgreSQL goes back before they are settled, the rows may be lost.
        self._ended.put_all([(flight, end, store) for flight, end in ended])
        self._intake.settled([flight for flight, _ in ended])

    def wait_again(self, run: Sequence[InFlight]) -> None:
        """Let these wait for their turn again: they were to be stored with an earlier event of their key."""
        self._intake.order.wait_again(run)

    def bury(self, flight: InFlight, cause: DeadLetterCause) -> None:
        """Make this event a dead letter."""
        flight.cause = cause
        self._to_bury.put(flight)

    async def run(self) -> None:
        """Settle until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._settle_for_ever(), name="settle")
            tasks.create_task(self._bury_for_ever(), name="bury")
            tasks.create_task(self._end_registered_for_ever(), name="end what is registered")

    async def _settle_for_ever(self) -> None:
        while True:
            taken = await self._ended.take(BATCH)
            started = self._clocks.monotonic()
            self._settled_now = batch = [(flight, end) for flight, end, _ in taken]
            await self._settle_done(taken)
            self._intake.finish(batch)
            now = self._clocks.monotonic()
            stored = [flight for flight, end in batch if end is STORED]
            if stored:
                seconds = [now - flight.received_clock for flight in stored]
                self._facts(EventsStored([p.event.event_id for p in stored], seconds))
            if len(stored) < len(batch):
                self._facts(EventsDuplicate([p.event.event_id for p, end in batch if end is not STORED]))
            self._facts(BatchDone("settle", len(batch), now - started))
            await self._announce_settled()

    async def _settle_done(self, ended: Sequence[tuple[InFlight, End, str]]) -> None:
        """Settle claims only for rows of the present store. Rows of an earlier store may be lost."""
        store = self._manager.known_store.name
        if stale := [flight.request.event_id for flight, _, stored_in in ended if stored_in != store]:
            await self._manager.leases.release(stale)
        if done := [flight.request.event_id for flight, _, stored_in in ended if stored_in == store]:
            await self._manager.leases.settle(done, "done")

    async def _bury_for_ever(self) -> None:
        while True:
            batch = await self._to_bury.take(BATCH)
            started = self._clocks.monotonic()
            async with self._deciding:
                if self._closed:
                    return  # what is still in memory gets its letter in bury_rest, or has one
                batch = await self._surely_ours(batch)
                written = await self._write(batch)
                self._lettered_now = batch if written else ()
            if not written:  # nobody may learn "dead" before the letter is on disk, so they are tried again
                self._to_bury.put_all(batch)
                await asyncio.sleep(RETRY_SECONDS)
                continue
            if not batch:
                continue
            await self._end_all_buried([flight for flight in batch if not _waits_for_registration(flight)])
            self._lettered_now = ()
            self._facts(BatchDone("bury", len(batch), self._clocks.monotonic() - started))
            await self._announce_settled()

    def registered(self, burials: Sequence[Burial]) -> None:
        """Record that PostgreSQL has these letters. From now on it refuses rows of later events of their keys."""
        self._registered.put_all(
            [flight for one in burials if (flight := self._unregistered.pop(one.letter_id, None)) is not None]
        )

    async def _end_registered_for_ever(self) -> None:
        while True:
            self._ending = await self._registered.take(BATCH)
            await self._end_all_buried(self._ending)
            self._ending = ()
            await self._announce_settled()

    async def _end_all_buried(self, batch: Sequence[InFlight]) -> None:
        if batch:
            await self._settle_dead([flight.claim_id for flight in batch])
            for flight in batch:
                self._end_buried(flight)

    async def bury_rest(
        self, flights: Sequence[InFlight], cause: DeadLetterCause, failure: Failure, *, seconds: float
    ) -> int:
        """Write letters for events that can no longer be settled; return how many got none because writing failed.

        Nothing else is buried from here on. No claim is needed: if another listener stores such an event, its letter is
        resolved.
        """
        until = self._clocks.monotonic() + seconds
        async with self._deciding:
            self._closed = True
            sure = {flight for flight, *_ in (*self._settled_now, *self._ended.waiting())} | {*self._lettered_now}
            sure |= {*self._unregistered.values(), *self._registered.waiting(), *self._ending}
            left = [flight for flight in flights if flight not in sure and flight.end is None]
            for flight in left:
                flight.cause = cause
                flight.attempts.append(failure)
            while left and (self._clocks.monotonic() < until or not self.error):
                if await self._write(left[:BATCH]):
                    for flight in left[:BATCH]:
                        self._end_buried(flight)
                    left = left[BATCH:]
                else:
                    await asyncio.sleep(RETRY_SECONDS)
        return len(left)

    async def _announce_settled(self) -> None:
        """Announce settled segments, so that peers need not read them. Nothing waits for this; a stop may skip it."""
        if names := self._intake.settled_segments():
            await self._manager.announce_settled(names)

    async def _surely_ours(self, batch: list[InFlight]) -> list[InFlight]:
        """Return the events whose claims are confirmed: a letter is final.

        A listener that is cut off from the places of its claims may be taken for dead, and others may store its events.
        So these wait until the places can be reached again, or their leases end by our own clock.
        """
        batch = self._still_ours(batch)
        claimed = [flight for flight in batch if self._needs_claim(flight)]
        if not claimed or await self._manager.confirmed([flight.claim_id for flight in claimed]):
            return self._still_ours(batch)
        await asyncio.sleep(RETRY_SECONDS)
        self._to_bury.put_all(claimed)
        return [flight for flight in batch if not self._needs_claim(flight)]

    def _still_ours(self, batch: list[InFlight]) -> list[InFlight]:
        """Return the events that we still own. A lost event is left to its new owner."""
        ours = []
        for flight in batch:
            if self._needs_claim(flight) and not self._manager.leases.is_held(flight.claim_id):
                if flight.cause is None or not flight.cause.is_of_the_event:
                    flight.cause = None
                    flight.attempts.clear()
                self._standby.ran_out(flight)
            else:
                ours.append(flight)
        return ours

    @staticmethod
    def _needs_claim(flight: InFlight) -> bool:
        return flight.cause is None or flight.cause.reason not in UNCLAIMED

    async def _write(self, batch: Sequence[InFlight]) -> bool:
        """Write letters; return whether it succeeded. If not, they are kept, and confirmed again before a retry."""
        try:
            if new := [flight for flight in batch if not flight.revive]:  # the others have their letters
                burials = await self._sink.bury(new)
                for flight, burial in zip(new, burials, strict=bool(burials)):  # a replay writes none
                    if _waits_for_registration(flight):
                        self._unregistered[burial.letter_id] = flight
                self._written(burials)
        except Transient as error:
            if not self.error:
                self._facts(DeadLetterFileFailed(str(error)))
            self.error = str(error)
            return False
        if self.error and not self._to_bury:
            self.error = ""
            self._facts(DeadLetterFileRecovered())
        return True

    async def _settle_dead(self, claim_ids: Sequence[str]) -> None:
        """Settle these claims as dead. An event is settled once one place can answer "dead"."""
        while not await self._manager.leases.settle(claim_ids, "dead"):  # noqa: ASYNC110  the end of an outage is not signalled
            await asyncio.sleep(RETRY_SECONDS)

    def _end_buried(self, flight: InFlight) -> None:
        cause = flight.cause
        assert cause is not None
        if flight.order_key is not None and flight.blocking_key is None:
            self._facts(OrderGivenUp(flight.event.event_id))
        last = flight.attempts[-1] if flight.attempts else UNTRIED
        self._intake.finish([(flight, Buried(cause.reason))])
        if flight.revive:
            return
        self._facts(EventBuried(flight.event.event_id, cause.reason, last.error_class, last.message, last.error_type))


def _waits_for_registration(flight: InFlight) -> bool:
    """Whether an event counts as settled only once PostgreSQL has its letter, which blocks its key.

    An event is buried without a claim only because it cannot wait.
    """
    cause = flight.cause
    return flight.blocking_key is not None and not flight.revive and cause is not None and cause.reason not in UNCLAIMED
