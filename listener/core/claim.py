"""The words of claiming: what is asked for, what is held, and what a place answers."""

from typing import Literal

import msgspec

Token = str
"""Names one process start, never just the host: ``instance:random``."""

Verdict = Literal["done", "dead"]

UNHANDLED = -1
"""In place of a number of suspects: no code of the user's runs, so what lapsed is taken over as if it was fresh."""


class ClaimRequest(msgspec.Struct, frozen=True, gc=False):
    """Which event, and the 32 bytes that stand for its content."""

    event_id: str
    digest: bytes


class HeldClaim(msgspec.Struct, frozen=True, gc=False):
    """What is held already, as a place is told of it."""

    event_id: str
    digest: bytes
    epoch: int = 1
    takeovers: int = 0
    alone: int = 0
    company: int = 0


class Won(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Mine now: nobody held it, my own lost reply is recognised, or it was taken over.

    ``takeovers``: how many owners were lost; ``alone``: how many of them while they ran this event and no other.
    """

    epoch: int
    takeovers: int
    alone: int = 0


class Held(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Another's lease is running; ``same`` tells whether it was asked for with the same content."""

    seconds_left: float
    same: bool


class Lapsed(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Another's lease ran out, or a suspect was released, and it was not asked for in so small a group as it may be.

    ``company``: with how many suspects at once its last owner took it over; 0: it was no suspect then.
    """

    same: bool
    company: int = 0

    @property
    def most(self) -> int | None:
        """With how many it may be taken over at once, itself included; ``None``: with any number."""
        return max(1, self.company // 2) if self.company else None


class Done(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Settled as stored."""

    same: bool


class Dead(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Settled as a dead letter."""

    same: bool


Answer = Won | Held | Lapsed | Done | Dead
