"""Events of a key that are claimed before their turn, and what happens once it comes.

The listener that holds the first event of a key claims a few behind it, so that the next needs no call when its turn
comes. These are held but do not start. One query finds for many events of a key which of them a peer has settled.
``key_order.py`` keeps the order itself.
"""

import contextlib
import itertools
from collections.abc import Callable, Sequence

from unlost.listener.claims.manager import ClaimManager
from unlost.listener.core.batch_queue import BatchQueue
from unlost.listener.core.errors import Permanent, Transient
from unlost.listener.core.facts import EventsClaimed, Facts
from unlost.listener.core.in_flight import InFlight
from unlost.listener.pipeline.intake import Intake
from unlost.listener.pipeline.peers.affinity import PeerAffinity
from unlost.listener.pipeline.policy import Policy
from unlost.listener.pipeline.settled_before import SettledBefore
from unlost.listener.pipeline.work import Work
from unlost.listener.ports.rows import Rows

CATCH_UP, CATCH_UP_KEYS = 256, 16
"""How many events of a key, and of how many keys, are looked up together once a peer has settled one of each."""


class ClaimedAhead:
    """Chooses what is claimed ahead, keeps it until its turn, and starts it then."""

    def __init__(
        self,
        *,
        queue: BatchQueue[InFlight],
        affinity: PeerAffinity,
        manager: ClaimManager,
        intake: Intake,
        store: Rows,
        work: Work,
        settled_before: SettledBefore,
        policy: Policy,
        facts: Facts,
    ) -> None:
        self._queue = queue
        self._affinity = affinity
        self._leases = manager.leases
        self._intake = intake
        self._order = intake.order
        self._store = store
        self._work = work
        self._settled_before = settled_before
        self._policy = policy
        self._facts = facts
        self.ending = False
        """Nothing starts any more, and nothing more is claimed ahead."""

    def turn_came(self, flights: Sequence[InFlight]) -> None:
        """Start the events that are held already, and claim the others. A claim under way starts its event itself.

        At the end nothing starts any more: see ``unstarted``.
        """
        if self.ending:
            return
        held = [one for one in flights if self._is_held(one)]
        if held:
            self.begin(held, self._work.start_all)
        begun = {*held}
        asked = [one for one in flights if one.ahead != "asked" and one not in begun]
        for one in (*held, *asked):
            one.ahead = ""
        if asked:
            self._affinity.put_first(asked)

    def unstarted(self) -> list[str]:
        """Return the claims that are held for events which waited for their turn. At the end, none of them starts."""
        return [one.claim_id for one in self._intake.inside() if self._is_held(one)]

    def next_is_held(self, flight: InFlight) -> bool:
        """Return whether the next event of this one's key starts as soon as this one is settled."""
        return not self.ending and any(map(self._is_held, self._order.next_of(flight, 1)))

    def _is_held(self, flight: InFlight) -> bool:
        return flight.ahead == "held" and self._leases.is_held(flight.claim_id)

    def admit(self, batch: Sequence[InFlight]) -> Sequence[InFlight]:
        """Return those that may be claimed now. Those that wait for their turn are left to it, if their route waits."""
        ahead = [one for one in batch if one.waits_for_key]
        if not ahead:
            return self._work.admit(batch)
        claimed = [one for one in ahead if self._work.may_be_claimed_ahead(one)]
        for one in {*ahead}.difference(claimed):
            self._order.not_ahead(one)
        return [*self._work.admit([one for one in batch if not one.waits_for_key]), *claimed]

    def hold(self, batch: Sequence[InFlight], won: Sequence[InFlight]) -> list[InFlight]:
        """Keep what was won ahead until its turn; return the rest, which is claimed again in its turn."""
        ahead, now = [one for one in won if one.waits_for_key], [one for one in won if not one.waits_for_key]
        for flight in ahead:
            flight.ahead = "held"
        if ahead:
            self._facts(EventsClaimed([one.event.event_id for one in ahead]))
        for flight in now:
            flight.ahead = ""
        for flight in batch:
            if flight.ahead == "asked" and flight.waits_for_key:
                self._order.not_ahead(flight)
        return now

    def begin(self, flights: Sequence[InFlight], start: Callable[[Sequence[InFlight]], None]) -> None:
        """Start these and the events of their keys that can go with them, and claim ahead what comes next."""
        if self._order.used and start == self._work.start_all:
            most = self._policy.ahead_of_key(handled=self._work.handled, seconds=self._work.seconds)
            for flight in flights if self._work.in_runs else ():
                if flight.order_key is not None and not flight.revive:
                    flight.run = self._order.run_of(flight, most, self._is_held)
                    for one in flight.run:
                        one.ahead = ""
            self._claim_next(flights, most)
        start(flights)

    def _claim_next(self, flights: Sequence[InFlight], most: int) -> None:
        room = self._policy.most_ahead(handled=self._work.handled) - len(self._order.ahead)
        chosen: list[InFlight] = []
        for flight in flights:
            if len(chosen) >= room or self.ending:
                break
            following = self._order.next_of(flight, most)
            if len(following) > most // 2 and following[most // 2].ahead:
                # Half of them are claimed: few large calls cost less than many small ones.
                continue
            chosen += [one for one in following if not one.ahead and self._may_be_claimed(one)]
        if chosen := chosen[: max(0, room)]:
            self._order.claim_ahead(chosen)
            self._queue.put_first(chosen)

    def _may_be_claimed(self, flight: InFlight) -> bool:
        may = flight.cause is None and not flight.handled and not flight.follows
        return may and self._work.may_be_claimed_ahead(flight)

    async def catch_up(self, settled: Sequence[InFlight]) -> None:
        """End the events behind these that a peer has settled too: one query instead of a claim each.

        The events that wait there are unclaimed, and are settled in the order of their key.
        """
        following = [self._order.next_of(flight, CATCH_UP) for flight in settled if not flight.waits_for_key]
        # A copy with other content has the name of another event that may be among these.
        behind = [list(itertools.takewhile(lambda one: not one.follows, some)) for some in following[:CATCH_UP_KEYS]]
        asked = [one.request for some in behind if len(some) > 1 for one in some if not one.ahead]
        if not asked:
            return
        with contextlib.suppress(Transient, Permanent):  # then they are claimed one by one
            found = await self._store.settled(asked)
            for some in behind:
                known = itertools.takewhile(
                    lambda one: (a := found.get(one.claim_id)) and a.same and not one.ahead, some
                )
                if ended := [one for one in known if one.waits_for_key]:
                    await self._settled_before.end([(one, True) for one in ended])
