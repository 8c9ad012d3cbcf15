"""Where dead letters are kept: the file of this instance, and the group's register of letters in PostgreSQL.

A failed call raises ``Transient`` (it may have taken effect, or may still do so) or ``Permanent`` (it can never succeed
as it is).
"""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from typing import Literal, NamedTuple, Protocol

import msgspec

from unlost.listener.core.in_flight import InFlight
from unlost.listener.core.oversized import Oversized


class Burial(msgspec.Struct, frozen=True, gc=False):
    """A letter on disk, named by its claim. ``claimed``: the writer held the claim, so no other may store the event."""

    claim_id: str
    digest: bytes
    letter_id: str
    claimed: bool = True


class Resolved(msgspec.Struct, frozen=True, gc=False):
    """A resolved letter: its event is a row, or buried under another letter. ``event_id``: empty for no event."""

    burial: Burial
    event_id: str


class Loss(msgspec.Struct, frozen=True, gc=False):
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


class StoppedLetter(NamedTuple):
    """A letter's id, and the frame that it holds."""

    letter_id: str
    frame: bytes | Oversized


class LetterRegister(Protocol):
    """The burials of a group. A buried event becomes a row only by a replay: a row and a burial exclude each other."""

    async def enter(self, burials: Sequence[Burial]) -> list[Standing]:
        """Register these letters, of distinct claims; return the state of each event from now on."""
        ...

    async def loss(self, after: str) -> Loss | None:
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

    def reopened(self, loss: Loss, gone: Gone) -> AsyncGenerator[Sequence[Burial], None]:
        """Reopen the letters that the loss concerns and yield them, in batches; at the end, record that this was done.

        ``Transient`` if that is impossible now, for example while a replay of the letters runs.
        """
        ...


class StoppedLetters(Protocol):
    """The letters of this instance that an orderly stop left."""

    def stopped(self) -> AsyncGenerator[Sequence[StoppedLetter], None]:
        """Yield waiting letters with the reason ``stopped``, in batches; ``Transient`` if unreadable now."""
        ...

    async def resolve(self, letter_ids: Sequence[str], why: str) -> Sequence[str]:
        """Record that these need no replay; return those that waited until now; ``Transient`` if impossible now."""
        ...


class DeadLetters(DeadLetterSink, Letters, StoppedLetters, Protocol):
    """Where events are buried, and the letters there."""
