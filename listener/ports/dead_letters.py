"""Where dead letters are kept: the file of this instance, and the group's register of letters in PostgreSQL.

A failed call raises ``Transient`` (it may have taken effect, or may still do so) or ``Permanent`` (it can never succeed
as it is).
"""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Literal, NamedTuple, Protocol

import msgspec

from unlost.listener.core.event import Edited
from unlost.listener.core.in_flight import InFlight
from unlost.listener.core.oversized import Oversized


class Burial(msgspec.Struct, frozen=True, gc=False):
    """A letter on disk, named by its claim. ``claimed``: the writer held the claim, so no other may store the event.

    ``order_key``: the key that it blocks. Then it is always ``claimed``: PostgreSQL decides between it and a row.
    ``stops``: whether nothing is read meanwhile; None in a letter that does not say so.
    """

    claim_id: str
    digest: bytes
    letter_id: str
    claimed: bool = True
    order_key: str | None = None
    stops: bool | None = None


def each_claim_once(burials: Sequence[Burial]) -> Iterator[list[Burial]]:
    """Split the letters into parts in which each claim occurs once: one statement cannot enter it twice."""
    left = list(burials)
    while left:
        first: dict[str, Burial] = {}
        for one in left:
            first.setdefault(one.claim_id, one)
        yield list(first.values())
        left = [one for one in left if first[one.claim_id] is not one]


class Resolved(msgspec.Struct, frozen=True, gc=False):
    """A resolved letter: its event is a row, or buried under another letter. ``event_id``: empty for no event."""

    burial: Burial
    event_id: str


class StoreLoss(msgspec.Struct, frozen=True, gc=False):
    """PostgreSQL went back, or may have. Rows stored after ``since`` (an epoch second) may be lost."""

    loss_id: str
    since: float


Standing = Literal["buried", "stored", "taken", "elsewhere", "open"]
"""The state of a letter's event.

``buried``: dead by this letter. ``stored``: a row with the same content. ``taken``: its id belongs to a row with other
content. ``elsewhere``: dead by another letter. ``open``: none of these yet, since another's lease is running or the
letter was written without a claim.
"""

Gone = Callable[[Sequence[Resolved]], Awaitable[Sequence[Resolved]]]
"""Returns those resolved letters whose events are neither rows nor under another letter."""


class HealingLetter(NamedTuple):
    """A letter to be tried again: its id, the frame that it holds, and how often it was tried since it was written.

    ``claimed``: its event counts as dead. Otherwise it is offered as if just received, and a failure is a new letter.
    ``edited``: the frame is a version that a person made; then it is offered as if ``claimed``.
    """

    letter_id: str
    frame: bytes | Oversized
    tries: int = 0
    claimed: bool = False
    edited: Edited | None = None
    order_key: str | None = None


class HealingGroup(NamedTuple):
    """Letters that failed alike with one handler, and how many times in a row trying one of them failed."""

    fingerprint: str
    failures: int = 0
    handler: str = ""


class Tried(NamedTuple):
    """The result of a retry of a letter. ``delay``: seconds until the next retry; None: it needs a human.

    ``lasts``: it failed for a reason that may make others fail too. ``behind``: it was not tried, since an earlier
    letter of its key waits.
    """

    letter_id: str
    what: Literal["stored", "settled", "elsewhere", "failed", "behind"]
    why: str
    error_type: str | None = None
    delay: float | None = None
    lasts: bool = False


class LetterRegister(Protocol):
    """The burials of a group. A buried event becomes a row only by a replay: a row and a burial exclude each other."""

    async def enter(self, burials: Sequence[Burial]) -> list[Standing]:
        """Register these letters, of distinct claims; return the state of each event from now on."""
        ...

    async def loss(self, after: str) -> StoreLoss | None:
        """Return what PostgreSQL may have lost since it recorded the loss ``after``; None if nothing."""
        ...

    async def gone(self, letters: Sequence[Resolved]) -> list[Resolved]:
        """Return those resolved letters whose events are neither rows nor under another letter."""
        ...


class DeadLetterSink(Protocol):
    """Where events are buried. ``bury`` returns once the letters are durable; ``Transient`` if they are not yet."""

    async def bury(self, flights: Sequence[InFlight]) -> Sequence[Burial]:
        """Write one letter for each event, all or none; return what PostgreSQL must know of them."""
        ...


class Letters(Protocol):
    """The letters that this instance wrote to its disk."""

    def waiting(self) -> AsyncIterator[Sequence[Burial]]:
        """Yield all unresolved letters, in batches; ``Transient`` if they cannot be read now."""
        ...

    async def resolve(self, letter_ids: Sequence[str], why: str) -> Sequence[str]:
        """Record that these need no replay; return those that waited for one until now.

        ``Transient`` if that cannot be written now.
        """
        ...

    async def checked(self) -> str:
        """Return the loss after which resolved letters were last checked; ``Transient`` if it cannot be read now."""
        ...

    def reopened(self, loss: StoreLoss, gone: Gone) -> AsyncGenerator[Sequence[Burial], None]:
        """Reopen the letters that the loss concerns and yield them, in batches; at the end, record that this was done.

        ``Transient`` if that is impossible now, for example while a replay of the letters runs.
        """
        ...


class HealingLetters(Protocol):
    """The letters that listeners retry by themselves. A group or letter is leased to the listener that takes it.

    Every call may raise ``Transient`` or ``Permanent``: then its effect is unknown, and leases expire.
    """

    async def groups(self, most: int) -> Sequence[HealingGroup]:
        """Take groups that may be retried now, those first that have waited longest since then."""
        ...

    async def take(self, group: HealingGroup, most: int) -> Sequence[HealingLetter]:
        """Take the oldest letters of a group that may be retried now; none if another listener has the group by now.

        They are bounded in number and in bytes. One that cannot be read is left to a human.

        They count as tried from now on, so that a letter that kills its listener is not tried for ever.
        """
        ...

    async def refuted(self, letter_ids: Sequence[str]) -> Sequence[str]:
        """Return those of these taken letters whose events are neither rows nor under another letter."""
        ...

    async def untried(self, letter_ids: Sequence[str]) -> None:
        """Give back letters that were taken and not tried: they do not count as tried."""
        ...

    async def ended(self, group: HealingGroup, tried: Sequence[Tried], *, probe_failed: bool) -> Sequence[str]:
        """Record how letters ended; return those that are resolved now.

        ``probe_failed``: the attempt counts for every letter of the group.
        """
        ...

    async def renew(self, groups: Sequence[HealingGroup], letter_ids: Sequence[str]) -> None:
        """Extend the leases of these groups and letters: of no other, so that what a failed call left expires."""
        ...

    async def leave(self, group: HealingGroup, failures: int, delay: float) -> None:
        """Free a group. It may be taken again after ``delay`` seconds."""
        ...


class DeadLetters(DeadLetterSink, Letters, Protocol):
    """Where events are buried, and the letters there."""
