"""The lookup: what PostgreSQL knows of events that were won, asked before they start."""

import asyncio
from collections.abc import Mapping, Sequence

from unlost.listener.core.cause import DeadLetterCause
from unlost.listener.core.claim import ClaimRequest, Dead, Done
from unlost.listener.core.clocks import Clocks
from unlost.listener.core.errors import Permanent, Transient
from unlost.listener.core.facts import AttemptFailed, Facts
from unlost.listener.core.in_flight import InFlight
from unlost.listener.pipeline.store_watch import StoreWatch
from unlost.listener.pipeline.work import Work
from unlost.listener.ports.rows import Rows

REFUSED_PAUSE_SECONDS = 1.0


class Lookup:
    """Asks the tables. Every failure is raised: without an answer nothing may start."""

    def __init__(self, *, store: Rows, watch: StoreWatch, work: Work, clocks: Clocks, facts: Facts) -> None:
        self._store = store
        self._watch = watch
        self._work = work
        self._clocks = clocks
        self._facts = facts

    async def settled(self, requests: Sequence[ClaimRequest], won: Sequence[InFlight]) -> Mapping[str, Done | Dead]:
        """Return which of these are settled, without the letters of events that come from their own letters."""
        if not requests:
            return {}
        settled = await self._settled(requests)
        revived = {flight.claim_id for flight in won if flight.revive}
        return {one: answer for one, answer in settled.items() if isinstance(answer, Done) or one not in revived}

    async def _settled(self, requests: Sequence[ClaimRequest]) -> Mapping[str, Done | Dead]:
        began = self._clocks.monotonic()
        try:
            return await self._store.settled(requests)
        except (Transient, Permanent) as error:
            await self._watch.counts(error, began)  # in an outage, this returns once it has ended
            if isinstance(error, Permanent):  # such as a revoked right: the events wait, and this must be visible
                self._facts(AttemptFailed("claim", "permanent", str(error), True, len(requests), None))
                await asyncio.sleep(REFUSED_PAUSE_SECONDS)
            raise

    async def park(self, keyed: Sequence[InFlight]) -> None:
        """Mark events for burial whose keys are blocked. Where the row comes first, its insert finds that out."""
        if sought := {p.event.event_id: p for p in keyed if self._work.must_look_before(p) and p.cause is None}:
            began = self._clocks.monotonic()
            try:
                found = await self._store.blocked({one: p.order_key or "" for one, p in sought.items()})
            except (Transient, Permanent) as error:
                # In an outage, this returns once it has ended.
                await self._watch.counts(error, began)
                raise
            for event_id in found:
                sought[event_id].cause = DeadLetterCause("blocked", "claim")
