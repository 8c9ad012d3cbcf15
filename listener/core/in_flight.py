"""One event's passage through a listener: what is known of it between receipt and settlement."""

from collections.abc import Callable, Iterable

import msgspec

from unlost.listener.core.cause import DeadLetterCause, Reason
from unlost.listener.core.claim import ClaimRequest
from unlost.listener.core.delivery import Delivery
from unlost.listener.core.errors import Failure
from unlost.listener.core.event import Event, decode
from unlost.listener.core.oversized import Oversized
from unlost.listener.core.watermark import Position


class Stored(msgspec.Struct, frozen=True, gc=False):
    """The row is there, written by this listener."""


class Duplicate(msgspec.Struct, frozen=True, gc=False):
    """The event was settled before."""


class Buried(msgspec.Struct, frozen=True, gc=False):
    """The event is a dead letter."""

    reason: Reason


End = Stored | Duplicate | Buried
STORED, DUPLICATE = Stored(), Duplicate()


def invalid_claim(digest: bytes) -> ClaimRequest:
    """What is claimed of a frame that is no valid event, by the digest of its bytes."""
    return ClaimRequest(f"invalid:{digest.hex()}", digest)


def conflict_claim(event: Event) -> ClaimRequest:
    """What is claimed of an event whose id is taken by other content."""
    return ClaimRequest(f"conflict:{event.digest.hex()}:{event.event_id}", event.digest)


class InFlight(msgspec.Struct, eq=False):
    """Mutable, and owned by exactly one stage at a time.

    ``ask`` is what is claimed: the event's id, or for an invalid or conflicting event a name made of its
    content, so that of all listeners that saw it only one writes the letter. ``received_at`` is a time of day,
    ``received_clock`` measures. ``of_peer``: a peer was waited for, in vain. ``handled``: its plain handler has
    succeeded in this process, and is not run here again, whoever held the claim meanwhile.
    """

    event: Event
    request: ClaimRequest
    position: Position | None
    received_at: float
    received_clock: float
    epoch: int = 0
    takeovers: int = 0
    alone: int = 0
    asked: int = 0
    attempts: list[Failure] = []
    cause: DeadLetterCause | None = None
    followers: "list[InFlight] | None" = None
    end: End | None = None
    on_end: "Callable[[InFlight], None] | None" = None
    revive: bool = False
    of_peer: bool = False
    handled: bool = False
    whole: Oversized | None = None
    """What was measured of a frame that was too large to be held: the event has its first bytes alone."""

    @property
    def is_no_event(self) -> bool:
        """Whether it is a frame that is no valid event."""
        return not self.event.payload

    @property
    def claim_id(self) -> str:
        """The name under which this event is claimed."""
        return self.request.event_id


def delivery_of(flight: InFlight, number: int) -> Delivery:
    """What the handler is given in its attempt of this number."""
    event = flight.event
    other = decode(event.other) if event.other else {}
    return Delivery(event.event_id, event.type, decode(event.payload), other, number, flight.epoch)


def unlettered(firsts: Iterable[InFlight]) -> list[InFlight]:
    """Of these and their copies, one for each content; where one has its letter already, none."""
    found: dict[tuple[str, bytes], InFlight] = {}
    lettered = set[tuple[str, bytes]]()
    for first in firsts:
        for flight in (first, *(first.followers or ())):
            content = flight.claim_id, flight.request.digest
            found.setdefault(content, flight)
            if flight.on_end is not None:
                lettered.add(content)
    return [flight for content, flight in found.items() if content not in lettered]
