"""The vocabulary of claims: a request, a held claim, and a place's answers."""

from typing import Literal

import msgspec

Token = str
"""Names one start of a process, never only the host: ``instance:random``."""

Verdict = Literal["done", "dead"]

UNHANDLED = -1
"""Used as a number of suspects when no user code runs: lapsed claims are then taken over like fresh ones."""


class ClaimRequest(msgspec.Struct, frozen=True, gc=False):
    """An event to claim, and the 32 bytes that identify its content."""

    event_id: str
    digest: bytes


class HeldClaim(msgspec.Struct, frozen=True, gc=False):
    """A claim that is held already, as it is passed to a place."""

    event_id: str
    digest: bytes
    epoch: int = 1
    takeovers: int = 0
    alone: int = 0
    company: int = 0


class Won(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Mine now: nobody held it, a place recognised my token after a lost reply, or it was taken over.

    ``takeovers``: how many owners were lost. ``alone``: how many of them while they ran only this event.
    """

    epoch: int
    takeovers: int
    alone: int = 0


class Held(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Another owner's lease is running. ``same``: whether that owner claimed the same content."""

    seconds_left: float
    same: bool


class Lapsed(msgspec.Struct, frozen=True, tag=True, gc=False):
    """A suspect that was not won, because the caller's group was too large. Its lease ran out, or it was released.

    ``company``: how many suspects its last owner took over together; 0: it was no suspect then.
    """

    same: bool
    company: int = 0

    @property
    def most(self) -> int | None:
        """How many suspects may be taken over together, itself included; ``None``: any number."""
        return max(1, self.company // 2) if self.company else None


class Done(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Settled as stored."""

    same: bool


class Dead(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Settled as a dead letter."""

    same: bool


Answer = Won | Held | Lapsed | Done | Dead
