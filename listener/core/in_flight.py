"""One event on its way through a listener: everything known about it between receipt and settlement."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal

import msgspec

from unlost.listener.core.cause import DeadLetterCause, Reason
from unlost.listener.core.claim import ClaimRequest
from unlost.listener.core.delivery import Delivery
from unlost.listener.core.effects import NO_EFFECTS, Effects
from unlost.listener.core.errors import Failure
from unlost.listener.core.event import Edited, Event, decode
from unlost.listener.core.order_key import AfterLetter
from unlost.listener.core.oversized import Oversized
from unlost.listener.core.watermark import Position


class Stored(msgspec.Struct, frozen=True, gc=False):
    """The row exists, written by this listener."""


class Duplicate(msgspec.Struct, frozen=True, gc=False):
    """The event had been settled before."""


class Buried(msgspec.Struct, frozen=True, gc=False):
    """The event is a dead letter."""

    reason: Reason


End = Stored | Duplicate | Buried
STORED, DUPLICATE = Stored(), Duplicate()


def invalid_claim(digest: bytes) -> ClaimRequest:
    """Make the claim for a frame that is not a valid event, named by the digest of its bytes."""
    return ClaimRequest(f"invalid:{digest.hex()}", digest)


def conflict_claim(event: Event) -> ClaimRequest:
    """Make the claim for an event whose id belongs to other content."""
    return ClaimRequest(f"conflict:{event.digest.hex()}:{event.event_id}", event.digest)


class Paused(msgspec.Struct, frozen=True, gc=False):
    """A suspect between two attempts of one owner: the next attempt's number, and how many ran together last."""

    epoch: int
    number: int
    company: int


class InFlight(msgspec.Struct, eq=False):
    """One event in flight: mutable, and owned by exactly one stage at a time.

    ``cursor`` is its position in the source, and ``position`` that of all events received together. ``request`` is what
    is claimed: the event's id. For an invalid or conflicting event it is a name made from its content, so that only one
    of all listeners that received it writes the letter. ``received_at`` is a time of day; ``received_clock`` is
    monotonic. ``of_peer``: this listener waited for a peer that did not settle it. ``handled``: its plain handler
    succeeded in this process and does not run here again, whoever held the claim meanwhile. ``revive``: it comes from
    its dead letter. ``once``: it gets a single attempt, since its letter is tried again later. ``edited``: a person
    edited that letter. ``order_key``: it is processed in the order of this key. ``after_letter``: what its
    letter does to that key. ``waits_for_key``: an earlier event of its key is not settled yet. ``ahead``: its claim was
    requested, or is held, although it waits. ``next_attempt``: the number of its first attempt under a new claim, if it
    was released while its route paused. ``run``: the events of its key that are stored with it, in one statement.
    ``follows``: it is a copy of an event in memory, and is not claimed before that has ended.
    """

    event: Event
    request: ClaimRequest
    position: Position | None
    received_at: float
    received_clock: float
    epoch: int = 0
    takeovers: int = 0
    alone: int = 0
    requests: int = 0
    attempts: list[Failure] = []
    cause: DeadLetterCause | None = None
    copies: "list[InFlight] | None" = None
    end: End | None = None
    on_end: "Callable[[InFlight], None] | None" = None
    revive: bool = False
    once: bool = False
    edited: Edited | None = None
    of_peer: bool = False
    handled: bool = False
    cursor: str | None = None
    paused: Paused | None = None
    order_key: str | None = None
    after_letter: AfterLetter = "park"
    waits_for_key: bool = False
    ahead: Literal["", "asked", "held"] = ""
    next_attempt: int = 1
    run: "Sequence[InFlight]" = ()
    follows: bool = False
    trace: Mapping[str, str] | None = None
    """The headers of its message that say in which trace it was published, if the source has such."""
    whole: Oversized | None = None
    """The measurements of a frame too large to be held. The event then has only its first bytes."""
    effect: int | None = None
    """The number of the effect that the letter is about. The event itself is a row."""

    @property
    def is_no_event(self) -> bool:
        """Whether this is a frame that is not a valid event."""
        return not self.event.payload

    @property
    def goes_on(self) -> bool:
        """Whether this owner has run it before, as a suspect, and now claims it for another attempt."""
        return self.paused is not None and self.paused.epoch == self.epoch

    @property
    def blocking_key(self) -> str | None:
        """The key that its letter blocks, and by which an earlier letter blocks its row."""
        return None if self.after_letter == "continue" else self.order_key

    @property
    def stops(self) -> bool | None:
        """Whether its letter stops reading while it blocks a key; None if it blocks none."""
        return None if self.blocking_key is None else self.after_letter == "stop"

    @property
    def claim_id(self) -> str:
        """The name under which this event is claimed."""
        return self.request.event_id


def effect_claim(event: Event, number: int) -> ClaimRequest:
    """Make the claim for an effect of an event that has its row."""
    return ClaimRequest(f"effect:{number}:{event.event_id}", event.digest)


def delivery_of(flight: InFlight, number: int, effects: Effects = NO_EFFECTS) -> Delivery:
    """Return the argument of the handler for this attempt. ``effects``: what it may record in its transaction."""
    return delivery_for(flight.event, number, flight.epoch, effects)


def delivery_for(event: Event, number: int, epoch: int, effects: Effects = NO_EFFECTS) -> Delivery:
    """Return the argument of the handler for an event that need not be in flight."""
    other = decode(event.other) if event.other else {}
    return Delivery(event.event_id, event.type, decode(event.payload), other, number, epoch, effects)


def unlettered(firsts: Iterable[InFlight]) -> list[InFlight]:
    """Return one event for each content among these and their copies, without those that have a letter already."""
    found: dict[tuple[str, bytes], InFlight] = {}
    lettered = set[tuple[str, bytes]]()
    for first in firsts:
        for flight in (first, *(first.copies or ())):
            content = flight.claim_id, flight.request.digest
            found.setdefault(content, flight)
            if flight.on_end is not None:
                lettered.add(content)
    return [flight for content, flight in found.items() if content not in lettered]
