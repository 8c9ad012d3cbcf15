"""The claim manager: claims events in every declared place, and keeps those places intersecting the peers'.

``quorum.py`` decides; this module carries it out. One lock, ``_turn``, separates claiming from moving. So whatever is
held while the lock is free is replicated in all declared places. ``leases.py`` keeps what is held, ``replicas.py``
holds it in further places, and ``backends.py`` knows the places. ``known_store.py`` knows which store PostgreSQL is,
and ``agreement.py`` whether all have one handler.

Failures. If Redis is silent or refuses calls, its breaker opens within about a second. Then everything held is
replicated in PostgreSQL, and running work goes on. If PostgreSQL is away, the membership cannot be refreshed: nothing
new starts, and running work goes on.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence

from unlost.listener.claims.agreement import Agreement
from unlost.listener.claims.backends import ClaimBackends
from unlost.listener.claims.known_store import KnownStore
from unlost.listener.claims.leases import Leases
from unlost.listener.claims.members import Members
from unlost.listener.claims.quorum import Places, Step, View, intersects, next_step
from unlost.listener.claims.replicas import Replicas
from unlost.listener.core.breaker import Breaker
from unlost.listener.core.claim import Answer, ClaimRequest
from unlost.listener.core.errors import Permanent, Transient
from unlost.listener.core.facts import ClaimingChanged, Facts, PlacesDeclared
from unlost.listener.core.store_mark import has_restarted
from unlost.listener.ports.claims import Claims, StoreMemory
from unlost.listener.ports.membership import Membership, MembershipView

TICK_SECONDS = 0.5
FRESH_SHARE = 0.75
"""The part of a membership row's life for which the last refresh is trusted."""


class ClaimManager:
    """Claims events for this listener. Nothing can be claimed unless ``run`` is running.

    ``lost`` is called with the claims that another owner may have by now, ``read_again`` when PostgreSQL may lack what
    was settled. Both are called in the same step of the event loop in which this is found.
    """

    def __init__(
        self,
        *,
        membership: Membership,
        postgres: Claims,
        redis: StoreMemory,
        redis_breaker: Breaker,
        store_breaker: Breaker,
        lease_seconds: float,
        lost: Callable[[Sequence[str]], None],
        read_again: Callable[[], None],
        facts: Facts,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._membership = membership
        self._facts = facts
        self._clock = clock
        self._backends = ClaimBackends(
            redis=redis, postgres=postgres, redis_breaker=redis_breaker, store_breaker=store_breaker, clock=clock
        )
        self.leases = Leases(self._backends, seconds=lease_seconds, lost=lost, facts=facts, clock=clock)
        self._replicas = Replicas(self._backends, self.leases)
        self._turn = asyncio.Lock()
        self._opened = asyncio.Event()
        self._peers: tuple[Places, ...] = ()
        self._share = (0, 1)
        self._at_work: tuple[str, frozenset[str]] = "", frozenset()
        self.agreement = Agreement(membership.handler)
        self._intersects = False
        self._moving = False
        self._fresh_until = 0.0
        self._row_ends = 0.0
        self._reported: str | None = None
        self._members = Members()
        self.known_store = KnownStore(
            membership=membership, backends=self._backends, read_again=read_again, facts=facts
        )

    # -- state ----------------------------------------------------------------------------------

    @property
    def open(self) -> bool:
        """Whether new events may be started now."""
        return (
            self._intersects
            and self.agreement.reached
            and not self._moving
            and self._fresh
            and self._backends.has_all(self.leases.places)
        )

    @property
    def _fresh(self) -> bool:
        return self._clock() < self._fresh_until

    @property
    def degraded(self) -> bool:
        """Whether claims are kept without Redis."""
        return bool(self.leases.places) and self._backends.redis not in self.leases.places

    @property
    def peer_warnings(self) -> Sequence[str]:
        """Configuration mistakes in this group, as the membership shows them. They stop nothing."""
        return self._members.warnings()

    def why_closed(self) -> str:
        """Return why nothing new may start, or an empty text."""
        if self.open:
            return ""
        if not self._fresh:
            return "PostgreSQL has not confirmed this listener for some seconds"
        if not self.agreement.reached:
            return self.agreement.why_not()
        if self._moving or not self._backends.has_all(self.leases.places):
            return "claims are moving to another place"
        return "a live peer keeps its claims elsewhere"

    async def wait_open(self) -> None:
        """Return once new events may be started."""
        while not self.open:
            self._opened.clear()
            await self._opened.wait()

    def share(self) -> tuple[int, int]:
        """Return this listener's number among the live ones, and how many there are."""
        return self._share

    def at_work(self) -> tuple[str, frozenset[str]]:
        """Return this listener's token, and those of the other listeners that work."""
        return self._at_work

    def may_run(self, event_id: str) -> bool:
        """Return whether this event's handler may start: replicated everywhere, lease running, places intersect."""
        return self.open and self.leases.is_held(event_id)

    # -- claims ---------------------------------------------------------------------------------

    async def claim(self, requests: Sequence[ClaimRequest], *, take_over: int, revive: bool = False) -> list[Answer]:
        """Claim these events in every declared place, Redis first. ``Transient`` if a place does not answer."""
        async with self._turn:  # excludes a move: a claim won during one would be missing in a declared place
            self._must_be_open()
            places = self.leases.places
            first, *rest = self._backends.in_order(places)
            started = self._clock()  # leases count from before the request, so they never end later than the server's
            asking = self._backends.at(first).claim(requests, take_over=take_over, revive=revive)
            answers = await self._backends.call(first, asking)
            for place in rest:
                self._must_be_open()  # if a place went away, the next claim recognises our token
                await self._replicas.claim(place, first, requests, answers, take_over=take_over, revive=revive)
            self.leases.add(requests, answers, places, started, company=max(0, take_over))
            return answers

    async def look(self, names: Sequence[ClaimRequest]) -> list[bool]:
        """Return which of these names Redis knows as settled. This claims nothing."""
        if not (redis := self._backends.redis):
            raise Transient("Redis is out of reach")
        return await self._backends.call(redis, self._backends.kept_in_redis.look(names))

    async def announce_settled(self, names: Sequence[ClaimRequest]) -> None:
        """Announce to peers through Redis that every event these names stand for is settled.

        A peer that misses it claims each event by itself.
        """
        if redis := self._backends.redis:
            with contextlib.suppress(Transient):
                await self._backends.call(redis, self._backends.kept_in_redis.settle(names, "done"))

    def _must_be_open(self) -> None:
        if not self.open:
            raise Transient(f"nothing can be claimed now: {self.why_closed()}")

    async def confirmed(self, event_ids: Sequence[str]) -> bool:
        """Confirm these claims in every declared place; return whether all answered. Claims that others hold are lost.

        The places must also intersect those of all peers. A peer may have taken this listener for dead, and
        claim elsewhere.
        """
        try:
            await self.leases.confirm(event_ids)
        except Transient:
            return False
        return self._intersects and (self._fresh or self._backends.postgres_is_away)

    # -- the loop -------------------------------------------------------------------------------

    async def run(self) -> None:
        """Refresh the membership, follow Redis, and move when the rule says so. Runs until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.leases.renew_for_ever(), name="renew leases")
            while True:
                started = self._clock()
                self._backends.lost.clear()
                # The breakers have recorded it, and the next round tries again. No answer of PostgreSQL's ends the
                # process, not even a revoked permission: the events that it holds would be lost.
                with contextlib.suppress(Transient, Permanent):
                    await self._tick()
                self.leases.lose_what_ran_out()
                self._report_whether_open()
                pause = TICK_SECONDS if self.open else TICK_SECONDS / 2
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(max(0.05, pause - (self._clock() - started))):
                        await self._backends.lost.wait()

    async def join(self) -> None:
        """Run the first round. Raises if PostgreSQL does not answer."""
        await self._tick()
        self._report_whether_open()

    async def leave(self) -> None:
        """Remove this listener from the membership."""
        await self._membership.leave()

    async def _tick(self) -> None:
        started = self._clock()
        try:
            view = await self.known_store.refresh_membership()
        except (Transient, Permanent) as error:
            self._backends.postgres_failed(str(error))
            await self.known_store.look_for_redis()
            self._lose_what_no_peer_respects()
            raise
        self._backends.postgres_answered()
        before = self.known_store.mark
        self._see(view, started)
        if has_restarted(before, view.store) and view.mine is None and view.peers:
            self._lose_all()  # our row expired, so peers no longer waited for the claims of before the restart
        if await self.known_store.look_for_redis():
            view = await self.known_store.look_again()
            self._see(view, started)
            await self.known_store.look_for_redis()
        if self.leases.places and (view.mine != self.leases.places or self.agreement.may_be_reached(view)):
            await self._declare_again(view)
        while step := next_step(View(self.leases.places, self._peers, self._backends.redis, self._backends.postgres)):
            if not await self._take(step):
                break
        self._moving = False
        self._intersects = intersects(self.leases.places, self._peers)

    def _lose_what_no_peer_respects(self) -> None:
        """Lose every claim once peers moved on to another PostgreSQL and our membership row has expired.

        Peers wait until that row expires, and not for the claims of a PostgreSQL that is gone.
        """
        if self.known_store.left_behind and self._clock() >= self._row_ends:
            self._lose_all()

    def _lose_all(self) -> None:
        self.leases.lose([claim.request.event_id for claim in self.leases.all()])

    def _see(self, view: MembershipView, started: float) -> None:
        self.known_store.see(view.store)
        self.agreement.see(view)
        self._peers = tuple(view.peers.values())
        self._members.seen(view, started)
        self._share = view.share
        self._at_work = view.token, frozenset({one.token for one in view.members if one.agreed})
        self._backends.postgres = view.postgres_place
        self._row_ends = started + self._membership.life_seconds
        shown = view.mine == self.leases.places  # otherwise peers do not see it, and may start what it holds
        self._fresh_until = started + self._membership.life_seconds * FRESH_SHARE if shown else 0.0

    async def _declare_again(self, view: MembershipView) -> None:
        """Declare again, since PostgreSQL shows other places than ours: a reply was lost, or the row expired."""
        async with self._turn:
            self._intersects = False
            await self._declare(view.mine or self.leases.places)

    async def _take(self, step: Step) -> bool:
        """Replicate first, declare second, refresh again. Return False if replicating must wait."""
        self._moving = self._moving or step.urgent
        async with self._turn:
            for place in step.replicate:
                if not await self._replicas.hold(place):
                    return False
            await self._declare(step.declare)
        self._moving = False
        return True

    async def _declare(self, places: Places) -> None:
        self._intersects = False
        started = self._clock()
        self.leases.places |= places  # if the reply is lost, peers may see these already: they must be renewed too
        view = await self._membership.declare(places)
        self.leases.places = places
        self._see(view, started)
        self._intersects = intersects(places, self._peers)
        self._facts(PlacesDeclared(tuple(sorted(places)), self.degraded))

    def _report_whether_open(self) -> None:
        if self.open:
            self._opened.set()
        why = self.why_closed()
        if why != self._reported:
            self._reported = why
            self._facts(ClaimingChanged(not why, why))
