"""Ends events that turn out to be settled already: as duplicates or, with other content, as conflicts."""

from collections.abc import Sequence

from unlost.listener.claims.manager import ClaimManager
from unlost.listener.core.cause import DeadLetterCause
from unlost.listener.core.clocks import Clocks
from unlost.listener.core.errors import Permanent, Transient, failure_of
from unlost.listener.core.in_flight import DUPLICATE, InFlight, conflict_claim
from unlost.listener.pipeline.intake import Intake
from unlost.listener.pipeline.settling import Settling
from unlost.listener.pipeline.standby import Standby
from unlost.listener.ports.rows import Rows


class SettledBefore:
    """``Claiming`` finds them by a claim's answer, ``Storing`` by an insert."""

    def __init__(
        self,
        *,
        manager: ClaimManager,
        store: Rows,
        intake: Intake,
        settling: Settling,
        standby: Standby,
        clocks: Clocks,
    ) -> None:
        self._manager = manager
        self._store = store
        self._intake = intake
        self._settling = settling
        self._standby = standby
        self._clocks = clocks

    async def end(self, settled: Sequence[tuple[InFlight, bool]]) -> None:
        """End these events. Each comes with whether the bytes of its content equal those of the settled event.

        If the bytes differ, PostgreSQL compares the JSON values.
        """
        self._settling.done([(p, DUPLICATE) for p, same in settled if same or p.cause is not None])
        for flight in [p for p, same in settled if not same and p.cause is None]:
            try:
                same = bool(await self._store.same_content(flight.event))
            except Permanent:
                same = False  # content that PostgreSQL refuses is not the content of a row
            except Transient:
                self._standby.put([(flight, 0.0)])
                continue
            if same:
                self._settling.done([(flight, DUPLICATE)])
            else:
                await self.conflict(flight)

    async def end_buried(self, flight: InFlight, *, same: bool) -> None:
        """End a held event that turns out to be a dead letter: release it, then end it as a duplicate or a conflict."""
        if not same and flight.cause is None:
            await self.conflict(flight)
            return
        await self._manager.leases.release([flight.claim_id])
        self._settling.done([(flight, DUPLICATE)])

    async def conflict(self, flight: InFlight) -> None:
        """Bury an event whose id belongs to other content, under a claim of its own: one listener writes the letter."""
        error = Permanent("an event with the same event_id and other content is settled already")
        flight.attempts.append(failure_of(error, stage="claim", at=self._clocks.now()))
        flight.cause = DeadLetterCause("conflict", "claim")
        await self._manager.leases.release([flight.claim_id])
        self._intake.rename(flight, conflict_claim(flight.event))
