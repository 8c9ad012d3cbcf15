"""Stand-ins that many tests of single stages share: a clock, events, the watch of the store, an empty group."""

from unlost.listener.core.cause import DeadLetterCause
from unlost.listener.core.claim import ClaimRequest
from unlost.listener.core.errors import Permanent, Transient
from unlost.listener.core.event import parse
from unlost.listener.core.in_flight import InFlight
from unlost.listener.core.store_mark import UNCONFIRMED, StoreMark
from unlost.listener.ports.membership import MembershipView


class Clock:
    """Stands still until the test sets it."""

    def __init__(self, now: float = 100.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def flight(event_id: str = "e", cause: DeadLetterCause | None = None) -> InFlight:
    """An event as it comes from the intake."""
    event = parse(b'{"event_id":"%s","payload":1}' % event_id.encode(), max_bytes=1_000)
    return InFlight(event, ClaimRequest(event_id, event.digest), None, 0.0, 0.0, attempts=[], cause=cause)


def flights(*event_ids: str) -> list[InFlight]:
    """Events as they come from the intake."""
    return [flight(event_id) for event_id in event_ids]


class Watch:
    """For ``StoreWatch``: this many failures fall into an outage, and do not count."""

    error = ""

    def __init__(self, outages: int = 0) -> None:
        self.outages = outages
        self.asked: list[tuple[Transient | Permanent, float]] = []

    async def counts(self, error: Transient | Permanent, began: float) -> bool:
        self.asked.append((error, began))
        self.outages -= 1
        return self.outages < 0


class NoPeers:
    """For ``Membership``: this listener is the only member. PostgreSQL shows ``seen``, one mark after the other."""

    life_seconds = 1_000.0
    handler = None

    def __init__(self, *seen: StoreMark) -> None:
        self.seen = list(seen)
        self.mine: frozenset[str] = frozenset()
        self.log: list[object] = []

    async def refresh(self, known: StoreMark | None = None) -> MembershipView:
        self.log.append(known)
        mark = self.seen.pop(0) if len(self.seen) > 1 else self.seen[0]
        return MembershipView("me:1", self.mine or None, {}, mark.incarnation, mark)

    async def declare(self, places: frozenset[str]) -> MembershipView:
        self.mine = places
        return await self.refresh()

    async def renew(self, generation: str, version: int, *, unconfirmed: bool = False) -> None:
        """A renewed generation is another one from then on."""
        self.log.append(f"renew {generation} after {version}")
        self.seen = [StoreMark(f"{UNCONFIRMED if unconfirmed else ''}after {generation}", version + 1, "postgres:1")]

    async def leave(self) -> None:
        """Nobody is left."""
