"""One event's passage through a listener: what is known of it between receipt and settlement."""

from collections.abc import Callable
from typing import Literal

import msgspec

from dlq.letter import Reason
from listener.claims.port import Ask
from listener.errors import Failure
from listener.event import Event
from listener.watermark import Position

Stage = Literal["receive", "claim", "handle", "store"]


class Stored(msgspec.Struct, frozen=True, gc=False):
    """The row is there, written by this listener."""


class Duplicate(msgspec.Struct, frozen=True, gc=False):
    """The event was settled before."""


class Buried(msgspec.Struct, frozen=True, gc=False):
    """The event is a dead letter."""

    reason: Reason


End = Stored | Duplicate | Buried
STORED, DUPLICATE = Stored(), Duplicate()


class Doom(msgspec.Struct, frozen=True, gc=False):
    """Why an event is to be buried."""

    reason: Reason
    stage: Stage


def invalid_claim(digest: bytes) -> Ask:
    """What is claimed of a frame that is no valid event, by the digest of its bytes."""
    return Ask(f"invalid:{digest.hex()}", digest)


def conflict_claim(event: Event) -> Ask:
    """What is claimed of an event whose id is taken by other content."""
    return Ask(f"conflict:{event.digest.hex()}:{event.event_id}", event.digest)


class Passage:
    """Mutable, and owned by exactly one stage at a time.

    ``ask`` is what is claimed: the event's id, or for an invalid or conflicting event a name made of its
    content, so that of all listeners that saw it only one writes the letter. ``of_peer``: it is a peer's turn to ask
    for it first.
    """

    __slots__ = (
        "ask", "asked", "attempts", "doom", "end", "epoch", "event", "followers", "of_peer", "on_end", "position",
        "received_at", "received_clock", "revive", "takeovers",
    )  # fmt: skip

    def __init__(self, event: Event, ask: Ask, position: Position | None, *, at: float, clock: float) -> None:
        self.event = event
        self.ask = ask
        self.position = position
        self.received_at = at
        self.received_clock = clock
        self.epoch = 0
        self.takeovers = 0
        self.asked = 0
        self.attempts: list[Failure] = []
        self.doom: Doom | None = None
        self.followers: list[Passage] | None = None
        self.end: End | None = None
        self.on_end: Callable[[Passage], None] | None = None
        self.revive = False
        self.of_peer = False

    @property
    def claim_id(self) -> str:
        """The name under which this event is claimed."""
        return self.ask.event_id
