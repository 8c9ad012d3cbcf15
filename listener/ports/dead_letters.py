"""Where dead letters are kept: the file of this instance, and PostgreSQL's register of all letters of the group.

What fails raises ``Transient`` (the call may have taken effect all the same, or may do so later) or
``Permanent`` (it can never succeed as it stands).
"""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from typing import Literal, NamedTuple, Protocol

import msgspec

from unlost.listener.core.in_flight import InFlight
from unlost.listener.core.oversized import Oversized


class Burial(msgspec.Struct, frozen=True, gc=False):
    """A letter on disk, by what it claims. ``claimed``: its writer held the claim, so that no other may store it."""

    claim_id: str
    digest: bytes
    letter_id: str
    claimed: bool = True


class Resolved(msgspec.Struct, frozen=True, gc=False):
    """A letter that is resolved: its event is a row, or lies under another letter. ``event_id``: empty for no event."""

    burial: Burial
    event_id: str


class Loss(msgspec.Struct, frozen=True, gc=False):
    """PostgreSQL went back, or may have: rows that were stored after ``since`` (an epoch second) may be lost."""

    loss_id: str
    since: float


Standing = Literal["buried", "stored", "taken", "elsewhere", "open"]
"""What is so of a letter's event: dead by this letter; a row of the same content; its id a row of other content; dead
by another letter; none of them as yet, since another's lease is running, or nobody may be told (no room for it)."""

Gone = Callable[[Sequence[Resolved]], Awaitable[Sequence[Resolved]]]
"""Those of some resolved letters whose events are neither rows nor under another letter."""


class StoppedLetter(NamedTuple):
    """A letter's id, and the frame that it keeps."""

    letter_id: str
    frame: bytes | Oversized


class LetterRegister(Protocol):
    """The burials of a group: who is in it becomes no row, but by a replay. A row and a burial exclude each other."""

    async def enter(self, burials: Sequence[Burial]) -> list[Standing]:
        """Enter these letters, of distinct claims; what stands of each event from now on."""
        ...

    async def loss(self, after: str) -> Loss | None:
        """What PostgreSQL may have lost since it noted the loss ``after``; None if nothing."""
        ...

    async def gone(self, letters: Sequence[Resolved]) -> list[Resolved]:
        """Those of these resolved letters whose events are neither rows nor under another letter."""
        ...


class DeadLetterSink(Protocol):
    """Where events are buried. ``bury`` returns when the letters are durable, and raises ``Transient`` if not yet."""

    async def bury(self, flights: Sequence[InFlight]) -> Sequence[Burial]:
        """Write one letter for each, all or nothing; what PostgreSQL is to know of them."""
        ...


class Letters(Protocol):
    """The letters that this instance wrote, on its disk."""

    def waiting(self) -> AsyncIterator[Sequence[Burial]]:
        """All that is not resolved, some at a time; ``Transient`` if they cannot be read now."""
        ...

    async def resolve(self, letter_ids: Sequence[str], why: str) -> Sequence[str]:
        """Note that these need no replay, and return those that waited for one until now.

        ``Transient`` if that cannot be written now.
        """
        ...

    async def checked(self) -> str:
        """After which loss the resolved letters were checked last; ``Transient`` if that cannot be read now."""
        ...

    def reopened(self, loss: Loss, gone: Gone) -> AsyncGenerator[Sequence[Burial], None]:
        """Open again what the loss took, and return it, some at a time; at the end, note that this was done.

        ``Transient`` if that is not possible now: as long as somebody replays the letters, say.
        """
        ...


class StoppedLetters(Protocol):
    """The letters of this instance."""

    def stopped(self) -> AsyncGenerator[Sequence[StoppedLetter], None]:
        """Those of reason ``stopped`` that wait, some at a time; ``Transient`` if they cannot be read now."""
        ...

    async def resolve(self, letter_ids: Sequence[str], why: str) -> Sequence[str]:
        """Note that these need no replay, and return those that waited until now; ``Transient`` if not now."""
        ...


class DeadLetters(DeadLetterSink, Letters, StoppedLetters, Protocol):
    """Where events are buried, and what lies there."""
