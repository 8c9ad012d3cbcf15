"""The claims that this process holds: until when each place grants them, and how they are renewed, ended and lost.

A claim's end is counted by this process's own clock, from before the request was sent. So it is never later than the
server's. A lease that was lost or ran out is reported to ``lost``, once.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

import msgspec

from unlost.listener.claims.backends import ClaimBackends
from unlost.listener.claims.quorum import Place, Places
from unlost.listener.core.claim import Answer, ClaimRequest, HeldClaim, Verdict, Won
from unlost.listener.core.errors import Transient
from unlost.listener.core.facts import Facts, LeasesLost
from unlost.listener.ports.claims import Claims

AT_ONCE = 4_096
"""The largest number of claims in one call: many more would exceed the time limit of a call."""


class Claim(msgspec.Struct, eq=False, gc=False):
    """One claim of this process. Claims won in one batch share ``until``, so it is replaced, never changed."""

    request: ClaimRequest
    won: Won
    company: int
    until: Mapping[Place, float]

    def grant(self, place: Place, until: float) -> None:
        """Record that this place grants the claim until then."""
        self.until = {**self.until, place: until}

    @property
    def as_held(self) -> HeldClaim:
        """The claim in the form in which another place replicates or renews it."""
        won = self.won
        return HeldClaim(self.request.event_id, self.request.digest, won.epoch, won.takeovers, won.alone, self.company)


class Leases:
    """All claims held, by event id."""

    def __init__(
        self,
        backends: ClaimBackends,
        *,
        seconds: float,
        lost: Callable[[Sequence[str]], None],
        facts: Facts,
        clock: Callable[[], float],
    ) -> None:
        self._backends = backends
        self._seconds = seconds
        self._report_lost = lost
        self._facts = facts
        self._clock = clock
        self._claims: dict[str, Claim] = {}
        self._freed = asyncio.Event()
        self.places: Places = frozenset()
        """The places declared. A claim runs while all of them grant it."""
        self.ending: set[str] = set()
        """Claims that are being settled. If a place that has settled one answers "not yours", the claim is not lost."""

    def __len__(self) -> int:
        return len(self._claims)

    def all(self) -> list[Claim]:
        """Return every claim held."""
        return list(self._claims.values())

    def these(self, event_ids: Iterable[str]) -> list[Claim]:
        """Return the held claims among these events."""
        return [claim for event_id in event_ids if (claim := self._claims.get(event_id))]

    def is_held(self, event_id: str) -> bool:
        """Return whether this event is held, and all declared places still grant it by this process's own clock."""
        claim = self._claims.get(event_id)
        return claim is not None and self._ends(claim) > self._clock()

    def add(
        self,
        requests: Iterable[ClaimRequest],
        answers: Iterable[Answer],
        places: Places,
        asked_at: float,
        *,
        company: int,
    ) -> None:
        """Hold the requests that were won in these places. ``company``: how many suspects were taken over together."""
        # Counted from before the request was sent, so a lease never ends later here than at the server.
        until = dict.fromkeys(places, asked_at + self._seconds)
        for request, answer in zip(requests, answers, strict=True):
            if isinstance(answer, Won):
                self._claims[request.event_id] = Claim(request, answer, company, until)

    def drop(self, event_ids: Iterable[str]) -> None:
        """Stop holding these without calling any place. The places answer a later claim."""
        for event_id in event_ids:
            self._claims.pop(event_id, None)
        self._freed.set()

    def lose(self, event_ids: Sequence[str]) -> None:
        """Drop claims that are no longer ours, and report them."""
        event_ids = [event_id for event_id in event_ids if event_id not in self.ending]
        if not event_ids:
            return
        self.drop(event_ids)
        self._facts(LeasesLost(event_ids))
        self._report_lost(event_ids)

    def lose_what_ran_out(self) -> None:
        """Lose each claim that a declared place has not renewed in time."""
        now = self._clock()
        self.lose([event_id for event_id, claim in self._claims.items() if self.places and self._ends(claim) <= now])

    async def wait_below(self, limit: Callable[[], int] | int) -> None:
        """Return once fewer than ``limit`` claims are held. A callable limit is called again after each change."""
        while len(self._claims) >= (limit if isinstance(limit, int) else limit()):
            self._freed.clear()
            await self._freed.wait()

    def look_again(self) -> None:
        """Let ``wait_below`` check again: its limit has changed."""
        self._freed.set()

    async def wait_gone(self, event_id: str) -> None:
        """Return once this claim is no longer held: settled, released or lost."""
        while event_id in self._claims:
            self._freed.clear()
            await self._freed.wait()

    async def settle(self, event_ids: Sequence[str], verdict: Verdict) -> bool:
        """End these claims with a verdict; return whether any place that granted them recorded it.

        Letters that no place recorded stay held.
        """
        self.ending.update(event_ids)
        try:
            recorded = await self._call_places(
                self.these(event_ids), lambda place, claims: place.settle([claim.request for claim in claims], verdict)
            )
        finally:
            self.ending.difference_update(event_ids)
        if recorded or verdict == "done":  # a row proves "done"; "dead" needs a place that can answer it
            self.drop(event_ids)
        return recorded

    async def release(self, event_ids: Sequence[str]) -> None:
        """Release these: peers may win them at once."""
        claims = self.these(event_ids)
        # Dropped first: once a peer can win these, nothing may run for them here.
        self.drop(event_ids)
        await self.give_back(claims)

    async def give_back(self, claims: Sequence[Claim]) -> None:
        """Report to the places that granted these claims that they are no longer held."""
        await self._call_places(claims, lambda place, those: place.release([claim.request.event_id for claim in those]))

    async def _call_places(
        self, claims: Sequence[Claim], call: Callable[[Claims, list[Claim]], Awaitable[object]]
    ) -> bool:
        """Call each place with the claims it granted; return whether any call succeeded."""
        recorded = not claims
        for place in self._backends.in_order({place for claim in claims for place in claim.until}):
            if not self._backends.has(place):
                continue
            those = [claim for claim in claims if place in claim.until]
            try:
                await self._backends.call(place, call(self._backends.at(place), those))
                recorded = True
            except Transient:
                continue  # the lease expires; a later claim finds the row or the burial
        return recorded

    async def replicate(self, place: Place) -> list[ClaimRequest]:
        """Have one more place grant every claim; return those it refused because another owner has them there.

        Claims that ran out are lost first: a peer may own such an event by now, and could not claim it in this place.
        """
        self.lose_what_ran_out()
        claims = self.all()  # every claim: while a place is not declared, nothing is renewed there
        if not claims:
            return []
        started = self._clock()
        replicating = self._backends.at(place).replicate([claim.as_held for claim in claims])
        replicated = await self._backends.call(place, replicating)
        refused = []
        for claim, mine in zip(claims, replicated, strict=True):
            if mine:
                claim.grant(place, started + self._seconds)
            else:
                refused.append(claim.request)
        return refused

    async def renew_for_ever(self) -> None:
        """Renew three times per lease, and sooner after a place did not answer."""
        while True:
            wait = self._seconds / 3
            try:
                await self.renew()
            except Transient:
                wait = min(1.0, self._seconds / 10)
            await asyncio.sleep(wait)

    async def renew(self) -> None:
        """Renew every claim in every declared place, one call for each place."""
        await self._renew(self.all)

    async def part(self, event_id: str) -> int:
        """Record that a suspect does not run now, so that the death of its owner does not count against it.

        Returns how many suspects were taken over together with it. A place that does not answer now gets the record
        with the next renewal.
        """
        company = 1
        for claim in self.these((event_id,)):
            company, claim.company = claim.company, 0
        with contextlib.suppress(Transient):
            await self._renew(lambda: self.these((event_id,)))
        return company

    async def confirm(self, event_ids: Sequence[str]) -> None:
        """Renew these in every declared place; lose what another owns. ``Transient`` if a place is unreachable."""
        for place in self.places:
            if not self._backends.has(place):
                raise Transient("a place that keeps these claims is out of reach")
        await self._renew(lambda: self.these(event_ids))

    async def _renew(self, chosen: Callable[[], list[Claim]]) -> None:
        failure: Transient | None = None
        for place in self._backends.in_order(self.places):
            claims = [claim for claim in chosen() if place in claim.until]
            try:
                for first in range(0, len(claims), AT_ONCE):
                    if self._backends.has(place):
                        await self._renew_there(place, claims[first : first + AT_ONCE])
            except Transient as error:
                failure = error
        if failure:
            raise failure

    async def _renew_there(self, place: Place, claims: Sequence[Claim]) -> None:
        started = self._clock()
        renewed = await self._backends.call(place, self._backends.at(place).renew([claim.as_held for claim in claims]))
        for claim, mine in zip(claims, renewed, strict=True):
            if mine and place in claim.until:
                claim.grant(place, started + self._seconds)
        self.lose([c.request.event_id for c, mine in zip(claims, renewed, strict=True) if not mine and self._still(c)])

    def _ends(self, claim: Claim) -> float:
        ends = [claim.until.get(place, 0.0) for place in self.places]
        return min(ends) if ends else 0.0

    def _still(self, claim: Claim) -> bool:
        return self._claims.get(claim.request.event_id) is claim
