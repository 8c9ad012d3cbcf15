"""How a pipeline ends: no claim follows, running work ends or is stopped, and the rest is released or gets letters."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import NamedTuple

from unlost.listener.claims.manager import ClaimManager
from unlost.listener.core.cause import DeadLetterCause
from unlost.listener.core.claim import Dead, Done
from unlost.listener.core.clocks import Clocks
from unlost.listener.core.errors import Permanent, Stopped, Transient, failure_of
from unlost.listener.core.in_flight import InFlight
from unlost.listener.pipeline.claiming import Claiming
from unlost.listener.pipeline.healer import Healer
from unlost.listener.pipeline.intake import Intake
from unlost.listener.pipeline.settling import Settling
from unlost.listener.pipeline.suspects import Suspects
from unlost.listener.pipeline.work import Work
from unlost.listener.ports.rows import Rows

QUIET_SECONDS = 3.0
"""How long a drain waits for the answer to a running claim. Unread, it would keep peers waiting for a whole lease."""
LETTERS_SECONDS = 5.0
"""How long to retry at the end if the file accepts no letters."""
LOOK_AT_ONCE = 1_000
LOOK_SECONDS = 0.1
"""How often a stop looks whether it waits for events that are not tried again in time."""
STOPPED = DeadLetterCause("stopped", "receive")


class Drained(NamedTuple):
    """How a drain ended: claims released, letters written, and events left without a row or a letter."""

    released: int
    buried: int = 0
    missing: int = 0


class OrderlyStop:
    """Ends the stages of one pipeline, once. They go on until nothing is left for them."""

    def __init__(
        self,
        *,
        manager: ClaimManager,
        store: Rows,
        intake: Intake,
        claiming: Claiming,
        suspects: Suspects,
        work: Work,
        settling: Settling,
        healer: Healer,
        clocks: Clocks,
    ) -> None:
        self._leases = manager.leases
        self._store = store
        self._intake = intake
        self._claiming = claiming
        self._suspects = suspects
        self._work = work
        self._settling = settling
        self._healer = healer
        self._clocks = clocks
        self.claiming_task: asyncio.Task[None] | None = None
        """The task that claims. It is cancelled once all its answers are read."""

    async def drain(self, seconds: float) -> Drained:
        """Claim nothing more, let running work finish, and release the rest, which the source sends again.

        Events that have not begun are released at once. Those that do not finish in time are stopped, then released.
        """
        self._healer.stop()
        await self._claim_no_more()
        await self.give_back(self._claiming.ahead.unstarted())
        stopped = await self._work.stop(begun=False, seconds=seconds)
        given_back = await self.give_back([*stopped, *(one.claim_id for one in self._suspects.waiting())])
        await self._wait_for_what_ends(
            seconds, lambda: self._leases.wait_below(lambda: 1), self._holds_only, between=self._give_back_unstarted
        )
        await self._work.stop(begun=True)
        given_back += await self.give_back([flight.claim_id for flight in self._intake.inside()])
        await self._healer.finish()
        return Drained(given_back)

    async def finish(self, seconds: float, sources: Collection[str]) -> Drained:
        """Drain for sources that cannot send again: settle what the time allows, and write letters for the rest.

        Nothing waits for a route that pauses: its events are released, or get letters, once all others have ended.

        ``sources``: their names. Events of any other are released, since it sends them again.
        """
        self._healer.stop()
        await self._wait_for_what_ends(seconds, self._intake.wait_until_empty, self._intake.holds_only)
        await self._claim_no_more()
        await self._work.stop(begun=True)
        left = await self._unsettled([one for one in self._intake.left() if _is_of(one, sources)])
        error = Stopped("the listener was stopped before this event was settled, and its source does not send it again")
        failure = failure_of(error, stage="receive", at=self._clocks.now())
        held = [flight.claim_id for flight in self._intake.inside()]
        missing = await self._settling.bury_rest(left, STOPPED, failure, seconds=LETTERS_SECONDS)
        given_back = await self.give_back(held)
        await self._healer.finish()
        return Drained(given_back, len(left) - missing, missing)

    async def _wait_for_what_ends(
        self,
        seconds: float,
        ended: Callable[[], Awaitable[None]],
        is_all: Callable[[Collection[str]], bool],
        between: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Wait until all has ended, but no longer than this, and not for events that are not tried again by then.

        ``between`` is called before each look.
        """
        until = self._clocks.monotonic() + seconds
        while (left := until - self._clocks.monotonic()) > 0:
            if between is not None:
                await between()
            waiting = self._work.waiting_longer_than(left)
            if waiting and is_all(waiting):
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left, LOOK_SECONDS)):
                    await ended()
                return

    def _holds_only(self, claim_ids: Collection[str]) -> bool:
        """Whether no claims are held but these."""
        is_held = self._leases.is_held
        return all(one.claim_id in claim_ids for one in self._intake.inside() if is_held(one.claim_id))

    async def _unsettled(self, flights: Sequence[InFlight]) -> list[InFlight]:
        """Leave out what a peer has settled meanwhile. If PostgreSQL does not answer, all get letters."""
        known: dict[str, Done | Dead] = {}
        with contextlib.suppress(Transient, Permanent, TimeoutError):
            async with asyncio.timeout(QUIET_SECONDS):
                for first in range(0, len(flights), LOOK_AT_ONCE):
                    known |= await self._store.settled([one.request for one in flights[first : first + LOOK_AT_ONCE]])
        return [one for one in flights if not ((answer := known.get(one.claim_id)) and answer.same)]

    async def _claim_no_more(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(QUIET_SECONDS):
                await self._claiming.quiet()
        if self.claiming_task is not None:
            self.claiming_task.cancel()

    async def _give_back_unstarted(self) -> None:
        """Release what waits for its turn again: it was to be stored with an event before it, and was not."""
        if unstarted := self._claiming.ahead.unstarted():
            await self.give_back(unstarted)

    async def give_back(self, claim_ids: Sequence[str]) -> int:
        """Release those of these claims that are held; return how many."""
        held = [claim_id for claim_id in claim_ids if self._leases.is_held(claim_id)]
        await self._leases.release(held)
        return len(held)


def _is_of(flight: InFlight, sources: Collection[str]) -> bool:
    """Whether an event came from one of these sources, or from none."""
    return flight.position is None or flight.position.of.source in (None, *sources)
