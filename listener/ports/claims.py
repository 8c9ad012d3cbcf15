"""What every place that keeps claims promises; the adapters are ``redis`` and ``postgres`` next to this file.

A claim is a lease on one event, held by a token, counted by an epoch. Three things are told apart that
a yes or no would mix up: done, held by another, mine. All times are the server's.

Clocks. A lease that ends later than it would if it was granted now shows that the server's clock went back. It counts
from now on, for as long as it was granted: a dead owner's ends in time, and a living owner renews it before. Each
record carries the length of its lease, so members of a group may differ in theirs.

Suspects. An event whose owner's lease ran out may be what killed its owner. It is won only by taking it over, with so
many others at once (its *company*) as the caller says. After another death the next owner may take it over with half
as many at most, so that what kills its owners ends up alone. Only an owner lost while it ran the event alone counts
against the event (``alone``).
"""

from collections.abc import Sequence
from typing import Protocol

from unlost.listener.core.claim import Answer, ClaimRequest, HeldClaim, Verdict
from unlost.listener.core.store_mark import Remembered, StoreMark


class Claims(Protocol):
    """One place where claims are kept.

    Each call is a batch, and is atomic for each event in it. Ids in one batch are distinct. Answers come
    in the order of the questions. What fails raises ``Transient`` (ask again; every call may be repeated,
    since one's own token is recognised) or ``Permanent`` (never, as it stands). Cancellation passes through.
    """

    async def place(self) -> str:
        """Name the place: ``redis:<run id>`` or ``postgres:<incarnation>``; a place that forgot has a new name."""
        ...

    async def claim(self, requests: Sequence[ClaimRequest], *, take_over: int, revive: bool = False) -> list[Answer]:
        """Ask for events. ``revive`` wins dead ones.

        ``take_over``: how many suspects are taken over at once, or ``UNHANDLED``; with 0, none is won. A lapsed lease
        is won with epoch + 1 and takeovers + 1. Winning again what is mine keeps the epoch and extends the lease.
        What was released is won with epoch + 1 and no takeover counted.
        """
        ...

    async def cover(self, held_claims: Sequence[HeldClaim]) -> list[bool]:
        """Hold here what is already held elsewhere, with its epoch and takeovers. False: somebody else's.

        What is settled here, or still leased to another, is somebody else's; a lapsed or released lease is not.
        """
        ...

    async def renew(self, held_claims: Sequence[HeldClaim]) -> list[bool]:
        """Extend the leases. False: lost to another, or settled. What is missing is written anew.

        My own lease that ran out is still mine as long as nobody took it.
        """
        ...

    async def settle(self, requests: Sequence[ClaimRequest | HeldClaim], verdict: Verdict) -> list[bool]:
        """End the claims: done or dead, remembered for the dedup window. False: another holds it, unchanged."""
        ...

    async def release(self, event_ids: Sequence[str]) -> None:
        """Give back in good order: peers may win at once, and it counts as no takeover. Others' are untouched."""
        ...

    async def close(self) -> None:
        """Let go of the connections that were opened for this place."""
        ...


class ReadableClaims(Claims, Protocol):
    """A place whose records can be read for less than asking costs."""

    async def look(self, requests: Sequence[ClaimRequest]) -> list[bool]:
        """Which of these are known as settled with the same content. Nothing is written, and ids may stand twice.

        A yes is true wherever it is read, also in a place that is another one by now. A no means nothing.
        """
        ...


class StoreMemory(ReadableClaims, Protocol):
    """A place that files what it knows under a store's name, and remembers how far that store had come."""

    def file_under(self, store: str) -> None:
        """From here on the calls, and the place's name, are for this store; nothing known of another is believed."""
        ...

    async def remember(self, store: StoreMark) -> Remembered | None:
        """Remember that this generation of the store has come so far; what was remembered of it before, if anything."""
        ...


class StandingClaims(Claims, Protocol):
    """A place whose records do not go by themselves."""

    async def prune(self, *, batch: int = 5_000) -> int:
        """Forget leases and burials that ended more than the dedup window ago, at most ``batch`` of each.

        Returns how many, of whichever there were more.
        """
        ...
