"""The desk: claims events in every place that this listener has declared, and keeps those places meeting the peers'.

Model. ``places.py`` decides; this module carries it out. One lock, the *turn*, separates claiming from
moving, so that whatever is held when the turn is free is covered in all declared places. What is held is kept
in ``leases.py``; ``reach.py`` knows which places there are, ``known_store.py`` which store PostgreSQL is.

What failures do. Redis silent or refused: its breaker opens within about a second, everything held is
covered in PostgreSQL and what runs goes on. PostgreSQL away: the roll cannot be refreshed, so nothing new
starts; what runs goes on. A lease lost or run out: its event is told to ``on_lost``, once.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence

from unlost.listener.claims.backends import ClaimBackends
from unlost.listener.claims.known_store import KnownStore
from unlost.listener.claims.leases import Leases
from unlost.listener.claims.members import Members
from unlost.listener.claims.quorum import Place, Places, Step, View, meets, next_step
from unlost.listener.core.breaker import Breaker
from unlost.listener.core.claim import Answer, ClaimRequest, Dead, Done, Verdict, Won
from unlost.listener.core.errors import Transient
from unlost.listener.core.facts import Facts, MeetingChanged, PlacesDeclared
from unlost.listener.core.store_mark import StoreMark
from unlost.listener.ports.claims import Claims, StoreMemory
from unlost.listener.ports.membership import Member, Membership, MembershipView

TICK_SECONDS = 0.5
FRESH_SHARE = 0.75
"""The part of a row's life for which what it was refreshed with is believed."""


class ClaimManager:
    """See the module's head. ``run`` must be running for anything to be claimed."""

    def __init__(
        self,
        *,
        membership: Membership,
        postgres: Claims,
        redis: StoreMemory,
        redis_breaker: Breaker,
        store_breaker: Breaker,
        lease_seconds: float,
        facts: Facts,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._membership = membership
        self._facts = facts
        self._clock = clock
        self._backends = ClaimBackends(
            redis=redis, postgres=postgres, redis_breaker=redis_breaker, store_breaker=store_breaker, clock=clock
        )
        self._leases = Leases(self._backends, seconds=lease_seconds, facts=facts, clock=clock)
        self._turn = asyncio.Lock()
        self._opened = asyncio.Event()
        self._peers: tuple[Places, ...] = ()
        self._share = (0, 1)
        self._look: MembershipView | None = None
        self._agreed = asyncio.Event()
        self._had_agreed = False
        self.displaced = asyncio.Event()
        """Set once peers took this listener for gone and work with another handler: it can only end and start anew."""
        self._meets = False
        self._moving = False
        self._fresh_until = 0.0
        self._row_ends = 0.0
        self._told: str | None = None
        self._members = Members()
        self._store = KnownStore(membership=membership, backends=self._backends, facts=facts)

    # -- what others ask ------------------------------------------------------------------------

    @property
    def open(self) -> bool:
        """Whether new events may be started now."""
        return (
            self._meets
            and self.agreed
            and not self._moving
            and self._clock() < self._fresh_until
            and self._backends.has_all(self._leases.places)
        )

    @property
    def agreed(self) -> bool:
        """Whether no live peer is at work with another handler."""
        return self._agreed.is_set()

    @property
    def members(self) -> tuple[Member, ...]:
        """The other listeners of the group, as last seen."""
        return () if self._look is None else self._look.members

    @property
    def _fresh(self) -> bool:
        return self._clock() < self._fresh_until

    @property
    def degraded(self) -> bool:
        """Whether claims are kept without Redis."""
        return bool(self.places) and self._backends.redis not in self.places

    @property
    def places(self) -> Places:
        """The places declared."""
        return self._leases.places

    @property
    def held(self) -> int:
        """How many claims this process holds."""
        return len(self._leases)

    def hear_of_lost(self, on_lost: Callable[[Sequence[str]], None]) -> None:
        """Have this called with the events whose claims were lost."""
        self._leases.on_lost = on_lost

    @property
    def peer_warnings(self) -> Sequence[str]:
        """What is wrong with how members of this group are set up, as the roll shows it; nothing stops for it."""
        return self._members.warnings()

    @property
    def store(self) -> StoreMark | None:
        """The store that PostgreSQL is, as it was seen last; None before it was seen."""
        return self._store.mark

    @property
    def store_name(self) -> str:
        """The same in short, without how far it has come."""
        return "" if self._store.mark is None else self._store.mark.name

    def hear_of_other_store(self, on_other_store: Callable[[], None]) -> None:
        """Have this called in the very step in which PostgreSQL turns out to be another store, or to have gone back."""
        self._store.on_other = on_other_store

    def why_closed(self) -> str:
        """Why nothing new is started, or an empty text."""
        if self.open:
            return ""
        if not self._fresh:
            return "PostgreSQL has not confirmed this listener for some seconds"
        if not self.agreed:
            return self.why_another_handler()
        if self._moving or not self._backends.has_all(self.places):
            return "claims are moving to another place"
        return "a live peer keeps its claims elsewhere"

    def why_another_handler(self) -> str:
        """Which listener has another handler than this one, or an empty text."""
        if self.agreed or self._look is None:
            return ""
        mine = self._membership.handler
        theirs = ", ".join(f"listener {one.instance_id} has {named(one.handler)}" for one in self._look.others(mine))
        return (
            f"another handler is at work: this listener has {named(mine)}, {theirs or 'a peer had another'}; "
            "start it with the same, or with HANDLER_CHANGE=yes to change the group's"
        )

    async def wait_agreed(self) -> None:
        """Return once no live peer is at work with another handler."""
        await self._agreed.wait()

    async def wait_open(self) -> None:
        """Return once new events may be started."""
        while not self.open:
            self._opened.clear()
            await self._opened.wait()

    async def wait_below(self, limit: int) -> None:
        """Return once fewer claims than ``limit`` are held."""
        await self._leases.wait_below(limit)

    async def wait_gone(self, event_id: str) -> None:
        """Return once this claim is not held any more: settled, given back or lost."""
        await self._leases.wait_gone(event_id)

    def share(self) -> tuple[int, int]:
        """This listener's number among those that live now, and how many they are."""
        return self._share

    def may_run(self, event_id: str) -> bool:
        """Whether the handler of this claimed event may start: covered everywhere, lease running, peers met."""
        return self.open and self._leases.run(event_id)

    def is_held(self, event_id: str) -> bool:
        """Whether this process's claim still runs, by its own careful clock."""
        return self._leases.run(event_id)

    # -- claims ---------------------------------------------------------------------------------

    async def claim(self, requests: Sequence[ClaimRequest], *, take_over: int, revive: bool = False) -> list[Answer]:
        """Ask for these events in every declared place, Redis first. ``Transient`` where a place does not answer."""
        async with self._turn:
            self._must_be_open()
            places = self._leases.places
            first, *rest = self._backends.in_order(places)
            started = self._clock()
            asking = self._backends.at(first).claim(requests, take_over=take_over, revive=revive)
            answers = await self._backends.call(first, asking)
            for place in rest:
                self._must_be_open()  # if a place went away meanwhile, what was won is recognised when asked again
                won = [i for i, answer in enumerate(answers) if isinstance(answer, Won)]
                await self._claim_also(place, first, requests, answers, won, take_over=take_over, revive=revive)
            self._leases.add(requests, answers, places, started, company=max(0, take_over))
            return answers

    async def look(self, names: Sequence[ClaimRequest]) -> list[bool]:
        """Of which of these names somebody has vouched, as far as Redis knows; nothing is claimed by it."""
        if not (redis := self._backends.redis):
            raise Transient("Redis is out of reach")
        return await self._backends.call(redis, self._backends.kept_in_redis.look(names))

    async def vouch(self, names: Sequence[ClaimRequest]) -> None:
        """Tell peers by Redis that everything is settled for which these names stand. Who misses it asks for each."""
        if redis := self._backends.redis:
            with contextlib.suppress(Transient):
                await self._backends.call(redis, self._backends.kept_in_redis.settle(names, "done"))

    def _must_be_open(self) -> None:
        if not self.open:
            raise Transient(f"nothing can be claimed now: {self.why_closed()}")

    async def _claim_also(
        self,
        place: Place,
        first: Place,
        requests: Sequence[ClaimRequest],
        answers: list[Answer],
        won: Sequence[int],
        *,
        take_over: int,
        revive: bool,
    ) -> None:
        """What was won in the first place must be won here too; or it is settled, or given back, there."""
        if not won:
            return
        claiming = self._backends.at(place).claim([requests[i] for i in won], take_over=take_over, revive=revive)
        refused: list[str] = []
        settled: dict[Verdict, list[ClaimRequest]] = {"done": [], "dead": []}
        for i, answer in zip(won, await self._backends.call(place, claiming), strict=True):
            earlier = answers[i]
            if isinstance(answer, Won) and isinstance(earlier, Won):
                answers[i] = Won(
                    max(earlier.epoch, answer.epoch),
                    max(earlier.takeovers, answer.takeovers),
                    max(earlier.alone, answer.alone),
                )
            else:
                answers[i] = answer
                if isinstance(answer, Done | Dead) and answer.same:
                    settled["done" if isinstance(answer, Done) else "dead"].append(requests[i])
                else:
                    refused.append(requests[i].event_id)
        for verdict, those in settled.items():
            if those:
                await self._backends.call(first, self._backends.at(first).settle(those, verdict))
        if refused:
            await self._backends.call(first, self._backends.at(first).release(refused))

    async def settle(self, event_ids: Sequence[str], verdict: Verdict) -> bool:
        """End these claims with a verdict; whether any place that keeps claims could be told."""
        return await self._leases.settle(event_ids, verdict)

    async def confirmed(self, event_ids: Sequence[str]) -> bool:
        """Whether every declared place was reached and asked for these once more; what is another's by now is lost.

        Nor may a peer claim elsewhere: who comes back to the roll may be met by one that took it for dead.
        """
        try:
            await self._leases.confirm(event_ids)
        except Transient:
            return False
        return self._meets and (self._fresh or self._backends.postgres_is_away)

    def let_go(self, event_ids: Sequence[str]) -> None:
        """Hold these no more, without telling anybody: whoever asks for them again is answered by the places."""
        self._leases.drop(event_ids)

    async def release(self, event_ids: Sequence[str]) -> None:
        """Give these claims back: peers may win them at once."""
        await self._leases.release(event_ids)

    # -- the loop -------------------------------------------------------------------------------

    async def run(self) -> None:
        """Refresh the roll, follow Redis, move when the rule says so. Runs until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._leases.renew_for_ever(), name="renew leases")
            while True:
                started = self._clock()
                self._backends.lost.clear()
                with contextlib.suppress(Transient):  # the breakers have been told; the next round tries again
                    await self._tick()
                self._leases.lose_what_ran_out()
                self._tell_whether_open()
                pause = TICK_SECONDS if self.open else TICK_SECONDS / 2
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(max(0.05, pause - (self._clock() - started))):
                        await self._backends.lost.wait()

    async def join(self) -> None:
        """Make the first round, so that a caller knows whether PostgreSQL answers."""
        await self._tick()
        self._tell_whether_open()

    async def leave(self) -> None:
        """Take this listener off the roll."""
        await self._membership.leave()

    async def _tick(self) -> None:
        started = self._clock()
        try:
            look = await self._store.look_at_roll()
        except Transient as error:
            self._backends.postgres_failed(str(error))
            await self._store.look_for_redis()
            self._lose_what_nobody_heeds()
            raise
        self._backends.postgres_answered()
        self._see(look, started)
        if await self._store.look_for_redis():
            look = await self._store.look_again()
            self._see(look, started)
            await self._store.look_for_redis()
        if self.places and (look.mine != self.places or self._may_agree(look)):
            await self._declare_again(look)
        while step := next_step(View(self.places, self._peers, self._backends.redis, self._backends.postgres)):
            if not await self._take(step):
                break
        self._moving = False
        self._meets = meets(self.places, self._peers)

    def _lose_what_nobody_heeds(self) -> None:
        """Peers wait for a row on the roll to run out, and then for nothing of a PostgreSQL that is no more."""
        if self._store.left_behind and self._clock() >= self._row_ends:
            self._leases.lose([claim.request.event_id for claim in self._leases.all()])

    def _may_agree(self, look: MembershipView) -> bool:
        """Whoever had another handler is gone."""
        return not look.agreed and not look.others(self._membership.handler)

    def _see(self, look: MembershipView, started: float) -> None:
        self._store.see(look.store)
        self._look = look
        if look.agreed:
            self._had_agreed = True
            self._agreed.set()
        else:
            self._agreed.clear()
            if self._had_agreed and look.mine is not None:
                self.displaced.set()
        self._peers = tuple(look.peers.values())
        self._members.seen(look, started)
        self._share = look.share
        self._backends.postgres = look.postgres_place
        self._row_ends = started + self._membership.life_seconds
        shown = look.mine == self.places  # else peers do not see it, and may start what it holds
        self._fresh_until = started + self._membership.life_seconds * FRESH_SHARE if shown else 0.0

    async def _declare_again(self, look: MembershipView) -> None:
        """PostgreSQL says something else than this process believes: a reply was lost, or the row had expired."""
        async with self._turn:
            self._meets = False
            await self._declare(look.mine or self.places)

    async def _take(self, step: Step) -> bool:
        """Cover first, declare second, look again. False where covering must wait."""
        self._moving = self._moving or step.urgent
        async with self._turn:
            for place in step.cover:
                if not await self._cover(place):
                    return False
            await self._declare(step.declare)
        self._moving = False
        return True

    async def _declare(self, places: Places) -> None:
        self._meets = False
        started = self._clock()
        self._leases.places |= places  # should the reply be lost, peers may see these, and ask where nothing is renewed
        look = await self._membership.declare(places)
        self._leases.places = places
        self._see(look, started)
        self._meets = meets(places, self._peers)
        self._facts(PlacesDeclared(tuple(sorted(places)), self.degraded))

    async def _cover(self, place: Place) -> bool:
        """Claim here what is held elsewhere. In PostgreSQL, what another holds is lost; in Redis, that must wait."""
        refused = await self._leases.cover(place)
        if place == self._backends.postgres:
            claims = self._leases.these([request.event_id for request in refused])
            self._leases.lose([request.event_id for request in refused])
            await self._leases.give_back(claims)  # who has it in PostgreSQL need not wait for it elsewhere
            return True
        return not refused or await self._all_settled(place, refused)

    async def _all_settled(self, place: Place, requests: Sequence[ClaimRequest]) -> bool:
        """Waiting is for what a peer holds. What is settled (this process was frozen meanwhile) is lost at once."""
        answers = await self._backends.call(place, self._backends.at(place).claim(requests, take_over=0))
        settled = [
            request.event_id
            for request, answer in zip(requests, answers, strict=True)
            if isinstance(answer, Done | Dead)
        ]
        self._leases.lose(settled)
        return len(settled) == len(requests)

    def _tell_whether_open(self) -> None:
        if self.open:
            self._opened.set()
        why = self.why_closed()
        if why != self._told:
            self._told = why
            self._facts(MeetingChanged(not why, why))


def named(handler: str | None) -> str:
    """A handler in a sentence."""
    return handler or "no handler"
