"""The promises of every place that keeps claims. ``claims/redis`` and ``claims/postgres`` implement them.

A claim is a lease on one event, held by a token and counted by an epoch. There are three answers, which a yes
or no would confuse: done, held by another, mine. All times are the server's.

Clocks. A lease that ends later than one granted now shows that the server's clock went back. It counts from now on, for
as long as it was granted. So a dead owner's lease ends in time, and a living owner renews it first. Each record holds
the length of its lease, so members of a group may use different ones.

Suspects. An event whose owner's lease ran out may have killed its owner. It is won only by a takeover, together with as
many others (its *company*) as the caller says. After another death, the next owner may take it over with at most half
as many. So an event that kills its owners ends up alone. Only an owner lost while it ran that event alone counts
against the event (``alone``).
"""

from collections.abc import Sequence
from typing import Protocol

from unlost.listener.core.claim import Answer, ClaimRequest, HeldClaim, Verdict
from unlost.listener.core.store_mark import Remembered, StoreMark


class Claims(Protocol):
    """One place where claims are kept.

    Each call is a batch, and is atomic for each event in it. The ids in one batch are distinct. Answers come in the
    order of the requests. A failed call raises ``Transient`` (ask again; every call may be repeated, since a place
    recognises the caller's token) or ``Permanent`` (this call can never succeed). Cancellation passes through.
    """

    async def place(self) -> str:
        """Name the place: ``redis:<run id>`` or ``postgres:<incarnation>``. A place that forgot has a new name."""
        ...

    async def claim(self, requests: Sequence[ClaimRequest], *, take_over: int, revive: bool = False) -> list[Answer]:
        """Claim events. ``revive`` also wins dead ones.

        ``take_over``: how many suspects are taken over together, or ``UNHANDLED``. With 0 no suspect is won. A lapsed
        lease is won with epoch + 1 and takeovers + 1. Winning again what is mine keeps the epoch and extends the lease.
        A released claim is won with epoch + 1, and no takeover is counted.
        """
        ...

    async def replicate(self, held_claims: Sequence[HeldClaim]) -> list[bool]:
        """Hold here what is held elsewhere already, with its epoch and takeovers. False: another owner has it.

        It is another's if it is settled here or still leased to another. A lapsed or released lease is free.
        """
        ...

    async def renew(self, held_claims: Sequence[HeldClaim]) -> list[bool]:
        """Extend the leases. False: lost to another, or settled. A missing record is written again.

        My own lease that ran out is still mine until another takes it.
        """
        ...

    async def settle(self, requests: Sequence[ClaimRequest | HeldClaim], verdict: Verdict) -> list[bool]:
        """End the claims as done or dead, remembered for the dedup window. False: another holds it, unchanged."""
        ...

    async def release(self, event_ids: Sequence[str]) -> None:
        """Release claims: peers may win them at once, without a takeover. Those of others are not touched."""
        ...

    async def close(self) -> None:
        """Close the connections that were opened for this place."""
        ...


class ReadableClaims(Claims, Protocol):
    """A place whose records can be read at a lower cost than claiming."""

    async def look(self, requests: Sequence[ClaimRequest]) -> list[bool]:
        """Return which of these are known as settled with the same content. Writes nothing; ids may repeat.

        A yes is true in any place, even in one that has been replaced since. A no means nothing.
        """
        ...


class StoreMemory(ReadableClaims, Protocol):
    """A place that keeps its records under a store's name, and remembers how far that store had come."""

    def file_under(self, store: str) -> None:
        """Use this store's records only, and its name in the place's name. Other stores' records are not believed."""
        ...

    @property
    def remembers_seconds(self) -> float:
        """For how long an event that is settled now will be remembered: shorter where memory is scarce."""
        ...

    @property
    def forged(self) -> int:
        """How many settled records were found here that no listener wrote, since this process began."""
        ...

    async def make_room(self) -> int:
        """If memory is nearly used up, forget some of the oldest settled events; return how many.

        0: there is room enough, or nothing was found to forget.
        """
        ...

    async def remember(self, store: StoreMark) -> Remembered | None:
        """Record how far this generation of the store has come; return what was remembered before, if anything."""
        ...


class StandingClaims(Claims, Protocol):
    """A place whose records do not expire by themselves."""

    async def prune(self, *, batch: int = 5_000) -> int:
        """Delete leases and burials that ended before the dedup window, at most ``batch`` of each.

        Returns the larger of the two counts.
        """
        ...
