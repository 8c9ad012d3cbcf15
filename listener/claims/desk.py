"""The desk: claims events in every place that this listener has declared, and keeps those places meeting the peers'.

Model. ``places.py`` decides; this module carries it out. One lock, the *turn*, separates claiming from
moving, so that whatever is held when the turn is free is covered in all declared places. A ``Claim`` is
one of them: its epoch, and until when (by this process's clock, reckoned from before the request was
sent, hence never later than the server's) each place grants it.

What failures do. Redis silent or refused: its breaker opens within about a second, everything held is
covered in PostgreSQL and what runs goes on. PostgreSQL away: the roll cannot be refreshed, so nothing new
starts; what runs goes on. A lease lost or run out: its event is told to ``on_lost``, once.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

from listener.breaker import Breaker
from listener.claims.places import Place, Places, Step, View, meets, next_step
from listener.claims.port import Answer, Ask, Claims, Dead, Done, Keep, Verdict, Won
from listener.errors import Permanent, Transient
from listener.facts import Facts, LeasesLost, MeetingChanged, PlacesDeclared
from listener.store.port import ListenerRoll
from listener.store.roll import Look

T = TypeVar("T")

TICK_SECONDS = 0.5
FRESH_SHARE = 0.75
"""The part of a row's life for which what it was refreshed with is believed."""


class Claim:
    """One claim of this process."""

    __slots__ = ("ask", "epoch", "takeovers", "until")

    def __init__(self, ask: Ask, won: Won) -> None:
        self.ask = ask
        self.epoch = won.epoch
        self.takeovers = won.takeovers
        self.until: dict[Place, float] = {}

    @property
    def as_keep(self) -> Keep:
        """The claim as another place is told of it."""
        return Keep(self.ask.event_id, self.ask.digest, self.epoch, self.takeovers)


class Desk:
    """See the module's head. ``run`` must be running for anything to be claimed."""

    def __init__(
        self,
        *,
        roll: ListenerRoll,
        postgres: Claims,
        redis: Claims,
        redis_breaker: Breaker,
        store_breaker: Breaker,
        lease_seconds: float,
        facts: Facts,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._roll = roll
        self._postgres = postgres
        self._redis = redis
        self._redis_breaker = redis_breaker
        self._store_breaker = store_breaker
        self._lease = lease_seconds
        self._facts = facts
        self._clock = clock
        self._turn = asyncio.Lock()
        self._wake = asyncio.Event()
        self._opened = asyncio.Event()
        self._freed = asyncio.Event()
        self._claims: dict[str, Claim] = {}
        self._ending: set[str] = set()
        self._declared: Places = frozenset()
        self._peers: tuple[Places, ...] = ()
        self._redis_place: Place | None = None
        self._postgres_place: Place = ""
        self._meets = False
        self._moving = False
        self._fresh_until = 0.0
        self._told: str | None = None
        self.on_lost: Callable[[Sequence[str]], None] = lambda _: None

    # -- what others ask ------------------------------------------------------------------------

    @property
    def open(self) -> bool:
        """Whether new events may be started now."""
        return (
            self._meets
            and not self._moving
            and self._clock() < self._fresh_until
            and self._declared <= {self._redis_place, self._postgres_place}
        )

    @property
    def degraded(self) -> bool:
        """Whether claims are kept without Redis."""
        return bool(self._declared) and self._redis_place not in self._declared

    @property
    def places(self) -> Places:
        """The places declared."""
        return self._declared

    @property
    def held(self) -> int:
        """How many claims this process holds."""
        return len(self._claims)

    def why_closed(self) -> str:
        """Why nothing new is started, or an empty text."""
        if self.open:
            return ""
        if self._clock() >= self._fresh_until:
            return "PostgreSQL has not confirmed this listener for some seconds"
        if self._moving or not self._declared <= {self._redis_place, self._postgres_place}:
            return "claims are moving to another place"
        return "a live peer keeps its claims elsewhere"

    async def wait_open(self) -> None:
        """Return once new events may be started."""
        while not self.open:
            self._opened.clear()
            await self._opened.wait()

    async def wait_below(self, limit: int) -> None:
        """Return once fewer claims than ``limit`` are held."""
        while len(self._claims) >= limit:
            self._freed.clear()
            await self._freed.wait()

    async def wait_gone(self, event_id: str) -> None:
        """Return once this claim is not held any more: settled, given back or lost."""
        while event_id in self._claims:
            self._freed.clear()
            await self._freed.wait()

    def may_run(self, event_id: str) -> bool:
        """Whether the handler of this claimed event may start: covered everywhere, lease running, peers met."""
        claim = self._claims.get(event_id)
        return claim is not None and self.open and self._ends(claim) > self._clock()

    def is_held(self, event_id: str) -> bool:
        """Whether this process's claim still runs, by its own careful clock."""
        claim = self._claims.get(event_id)
        return claim is not None and self._ends(claim) > self._clock()

    # -- claims ---------------------------------------------------------------------------------

    async def claim(self, asks: Sequence[Ask], *, take_over: bool, revive: bool = False) -> list[Answer]:
        """Ask for these events in every declared place, Redis first. ``Transient`` where a place does not answer.

        A takeover is claimed in PostgreSQL too, declared or not: its owner may have buried the event there while
        Redis was out of its reach.
        """
        async with self._turn:
            if not self.open:
                raise Transient(f"nothing can be claimed now: {self.why_closed()}")
            first, *rest = self._in_order()
            started = self._clock()
            answers = await self._reach(first, self._at(first).claim(asks, take_over=take_over, revive=revive))
            for place in rest:
                if not self.open:  # a place went away meanwhile; what was won is recognised as ours when asked again
                    raise Transient(f"nothing can be claimed now: {self.why_closed()}")
                won = [i for i, answer in enumerate(answers) if isinstance(answer, Won)]
                await self._claim_also(place, first, asks, answers, won, take_over=take_over, revive=revive)
            places = self._declared
            if self._postgres_place not in places:
                taken = [i for i, answer in enumerate(answers) if isinstance(answer, Won) and answer.takeovers]
                await self._claim_also(
                    self._postgres_place, first, asks, answers, taken, take_over=take_over, revive=revive
                )
                places = places | {self._postgres_place} if taken else places
            for ask, answer in zip(asks, answers, strict=True):
                if isinstance(answer, Won):
                    claim = self._claims[ask.event_id] = Claim(ask, answer)
                    told = places if answer.takeovers else self._declared
                    claim.until = dict.fromkeys(told, started + self._lease)
            return answers

    async def _claim_also(
        self,
        place: Place,
        first: Place,
        asks: Sequence[Ask],
        answers: list[Answer],
        won: Sequence[int],
        *,
        take_over: bool,
        revive: bool,
    ) -> None:
        """What was won in the first place must be won here too; or it is settled, or given back, there."""
        if not won:
            return
        claiming = self._at(place).claim([asks[i] for i in won], take_over=take_over, revive=revive)
        refused: list[str] = []
        settled: dict[Verdict, list[Ask]] = {"done": [], "dead": []}
        for i, answer in zip(won, await self._reach(place, claiming), strict=True):
            earlier = answers[i]
            if isinstance(answer, Won) and isinstance(earlier, Won):
                answers[i] = Won(max(earlier.epoch, answer.epoch), max(earlier.takeovers, answer.takeovers))
            else:
                answers[i] = answer
                if isinstance(answer, Done | Dead) and answer.same:
                    settled["done" if isinstance(answer, Done) else "dead"].append(asks[i])
                else:
                    refused.append(asks[i].event_id)
        for verdict, those in settled.items():
            if those:
                await self._reach(first, self._at(first).settle(those, verdict))
        if refused:
            await self._reach(first, self._at(first).release(refused))

    async def settle(self, event_ids: Sequence[str], verdict: Verdict) -> bool:
        """End these claims with a verdict; whether any place that keeps claims could be told."""
        claims = [claim for event_id in event_ids if (claim := self._claims.get(event_id))]
        self._ending.update(event_ids)
        try:
            told = await self._tell(claims, lambda claims, told: claims.settle([claim.ask for claim in told], verdict))
        finally:
            self._ending.difference_update(event_ids)
        if told or verdict == "done":
            self._drop(event_ids)
        return told

    async def release(self, event_ids: Sequence[str]) -> None:
        """Give these claims back: peers may win them at once."""
        claims = [claim for event_id in event_ids if (claim := self._claims.get(event_id))]
        self._drop(event_ids)
        await self._tell(claims, lambda claims, told: claims.release([claim.ask.event_id for claim in told]))

    def _drop(self, event_ids: Iterable[str]) -> None:
        for event_id in event_ids:
            self._claims.pop(event_id, None)
        self._freed.set()

    async def _tell(self, claims: list[Claim], call: Callable[[Claims, list[Claim]], Awaitable[object]]) -> bool:
        told = not claims
        for place in sorted({place for claim in claims for place in claim.until}):
            if place not in (self._redis_place, self._postgres_place):
                continue
            try:
                await self._reach(place, call(self._at(place), [claim for claim in claims if place in claim.until]))
                told = True
            except Transient:
                continue  # the lease ends by itself; whoever asks then finds the row
        return told

    # -- places ---------------------------------------------------------------------------------

    def _in_order(self) -> list[Place]:
        return sorted(self._declared, key=lambda place: place == self._postgres_place)

    def _at(self, place: Place) -> Claims:
        return self._postgres if place == self._postgres_place else self._redis

    def _ends(self, claim: Claim) -> float:
        return min((claim.until.get(place, 0.0) for place in self._declared), default=0.0)

    async def _reach(self, place: Place, call: Awaitable[T]) -> T:
        """Await a call to a place and tell that place's breaker how it went."""
        breaker = self._store_breaker if place == self._postgres_place else self._redis_breaker
        try:
            result = await call
        except (Transient, Permanent) as error:
            breaker.failed(self._clock())
            if breaker.is_open:
                self._wake.set()
            raise Transient(str(error)) from error
        breaker.succeeded()
        return result

    # -- the loop -------------------------------------------------------------------------------

    async def run(self) -> None:
        """Refresh the roll, follow Redis, move when the rule says so. Runs until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._renew_for_ever(), name="renew leases")
            while True:
                started = self._clock()
                self._wake.clear()
                with contextlib.suppress(Transient):  # the breakers have been told; the next round tries again
                    await self._tick()
                self._lose_what_ran_out()
                self._tell_whether_open()
                pause = TICK_SECONDS if self.open else TICK_SECONDS / 2
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(max(0.05, pause - (self._clock() - started))):
                        await self._wake.wait()

    async def join(self) -> None:
        """Make the first round, so that a caller knows whether PostgreSQL answers."""
        await self._tick()
        self._tell_whether_open()

    async def leave(self) -> None:
        """Take this listener off the roll."""
        await self._roll.leave()

    async def _tick(self) -> None:
        started = self._clock()
        try:
            look = await self._roll.refresh()
        except Transient:
            self._store_breaker.failed(self._clock())
            self._redis_place = await self._redis_now()
            raise
        self._store_breaker.succeeded()
        self._see(look, started)
        self._redis_place = await self._redis_now()
        if self._declared and look.mine != self._declared:
            await self._declare_again(look)
        while step := next_step(View(self._declared, self._peers, self._redis_place, self._postgres_place)):
            if not await self._take(step):
                break
        self._moving = False
        self._meets = meets(self._declared, self._peers)

    def _see(self, look: Look, started: float) -> None:
        self._peers = tuple(look.peers.values())
        self._postgres_place = look.postgres_place
        shown = look.mine == self._declared  # else peers do not see it, and may start what it holds
        self._fresh_until = started + self._roll.life_seconds * FRESH_SHARE if shown else 0.0

    async def _redis_now(self) -> Place | None:
        """The Redis that answers; one failure alone does not mean that it is gone."""
        if not self._redis_breaker.may_try(self._clock()):
            return None
        try:
            place = await self._redis.place()
        except (Transient, Permanent):  # a Redis that refuses us is as good as none
            self._redis_breaker.failed(self._clock())
            return None if self._redis_breaker.is_open else self._redis_place
        self._redis_breaker.succeeded()
        return place

    async def _declare_again(self, look: Look) -> None:
        """PostgreSQL says something else than this process believes: a reply was lost, or the row had expired."""
        async with self._turn:
            self._meets = False
            await self._declare(look.mine or self._declared)

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
        look = await self._roll.declare(places)
        self._declared = places
        self._see(look, started)
        self._meets = meets(places, self._peers)
        self._facts(PlacesDeclared(tuple(sorted(places)), self.degraded))

    async def _cover(self, place: Place) -> bool:
        """Claim here what is held elsewhere. In PostgreSQL, what another holds is lost; in Redis, that must wait."""
        claims = list(self._claims.values())  # all: since a place was given up, nothing was renewed there
        if not claims:
            return True
        started = self._clock()
        covered = await self._reach(place, self._at(place).cover([claim.as_keep for claim in claims]))
        taken = []
        for claim, mine in zip(claims, covered, strict=True):
            if mine:
                claim.until[place] = started + self._lease
            else:
                taken.append(claim.ask)
        if place == self._postgres_place:
            self._lose([ask.event_id for ask in taken])
            return True
        return not taken or await self._all_settled(place, taken)

    async def _all_settled(self, place: Place, asks: Sequence[Ask]) -> bool:
        """Waiting is for what a peer holds. What is settled (this process was frozen meanwhile) is lost at once."""
        answers = await self._reach(place, self._at(place).claim(asks, take_over=False))
        settled = [ask.event_id for ask, answer in zip(asks, answers, strict=True) if isinstance(answer, Done | Dead)]
        self._lose(settled)
        return len(settled) == len(asks)

    # -- leases ---------------------------------------------------------------------------------

    async def _renew_for_ever(self) -> None:
        while True:
            wait = self._lease / 3
            try:
                await self._renew()
            except Transient:
                wait = min(1.0, self._lease / 10)
            await asyncio.sleep(wait)

    async def _renew(self) -> None:
        trouble: Transient | None = None
        for place in self._in_order():
            claims = [claim for claim in self._claims.values() if place in claim.until]
            if not claims or place not in (self._redis_place, self._postgres_place):
                continue
            started = self._clock()
            try:
                renewed = await self._reach(place, self._at(place).renew([claim.as_keep for claim in claims]))
            except Transient as error:
                trouble = error
                continue
            for claim, mine in zip(claims, renewed, strict=True):
                if mine and place in claim.until:
                    claim.until[place] = started + self._lease
            self._lose([h.ask.event_id for h, mine in zip(claims, renewed, strict=True) if not mine and self._still(h)])
        if trouble:
            raise trouble

    def _still(self, claim: Claim) -> bool:
        return self._claims.get(claim.ask.event_id) is claim

    def _lose_what_ran_out(self) -> None:
        now = self._clock()
        self._lose(
            [event_id for event_id, claim in self._claims.items() if self._declared and self._ends(claim) <= now]
        )

    def _lose(self, event_ids: Sequence[str]) -> None:
        """Those that are being settled are not lost: a place that was told already answers "not yours"."""
        event_ids = [event_id for event_id in event_ids if event_id not in self._ending]
        if not event_ids:
            return
        self._drop(event_ids)
        self._facts(LeasesLost(event_ids))
        self.on_lost(event_ids)

    def _tell_whether_open(self) -> None:
        if self.open:
            self._opened.set()
        why = self.why_closed()
        if why != self._told:
            self._told = why
            self._facts(MeetingChanged(not why, why))
