"""Where events come from: one protocol for our own stream, foreign feeds and brokers.

A reader opens a source again and again, and takes messages from it. Behind this port nothing knows which source runs:
beside each message's body stands its position, never inside the bytes.

A source that *resumes* sends later what is missed now: after a cursor, or because it was not acknowledged. A *shared*
source gives each message to one member of the group; any other gives all messages to all members.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple, Protocol

import msgspec

from unlost.listener.core.errors import UnlostError
from unlost.listener.core.oversized import Oversized


class Receipt(Protocol):
    """Proof that a source delivered a message. Returned to it once every event of the message is settled."""


class Batch(msgspec.Struct, frozen=True, gc=False):
    """Messages in the order of the source: the body and the cursor of each.

    ``receipts``: if the source wants messages acknowledged, how many of these belong together, and their receipt.
    """

    bodies: Sequence[bytes]
    cursors: Sequence[str | None]
    receipts: Sequence[tuple[int, Receipt]] = ()
    traces: Sequence[Mapping[str, str] | None] = ()
    """The headers of each message that name a trace; empty if no message has any."""


Taken = Batch | Oversized


class Dropped(NamedTuple):
    """How many messages a source removed unread, if known, and the positions before and after them.

    ``once``: if all listeners of the group notice this, a text by which it is recorded once.
    """

    missing: int | None
    after: str
    resumed_at: str
    once: str | None = None


class Opened(msgspec.Struct, frozen=True):
    """The properties of a source that has been opened.

    ``after``: the cursor that it was asked to continue after. ``oldest`` and ``newest``: cursors between which its
    events lie now; set together or not at all. ``unknown``: it does not know this cursor and continues at ``newest``.
    """

    after: str | None = None
    oldest: str | None = None
    newest: str | None = None
    unknown: str | None = None
    dropped: Dropped | None = None
    """Messages that it removed before the group had read them, if it knows."""


class Loss(NamedTuple):
    """Why there is no connection. ``code`` and ``reason``: from the close frame; ``wait``: what the source asks for.

    ``trace``: the traceback of an error that nobody expected.
    """

    why: str
    code: int | None = None
    reason: str = ""
    wait: float = 0.0
    trace: str = ""

    def as_values(self) -> dict[str, object]:
        """Return it in the form that health shows."""
        return {"why": self.why, "code": self.code, "reason": self.reason}


class SourceEnded(UnlostError):
    """The source could not be opened, or has ended. Opening it again may help."""

    def __init__(self, loss: Loss) -> None:
        super().__init__(loss.why)
        self.loss = loss


class SessionOver(SourceEnded):
    """The session has ended as planned, and the source is opened again at once."""


class Session(Protocol):
    """A source that is open."""

    opening: Opened

    async def take(self, most: int, size: int) -> Taken:
        """Return the next messages, at least one, within these limits; ``SourceEnded`` at the end."""
        ...

    async def take_rest(self, most: int, size: int) -> Taken | None:
        """Return messages that had arrived when the session ended; None if all were taken."""
        ...

    async def run(self, paused: Callable[[], bool]) -> None:
        """Do what must be done beside reading, until cancelled. ``paused``: whether nobody takes messages now."""
        ...

    async def settled(self, receipts: Sequence[Receipt]) -> None:
        """Acknowledge messages whose events are all rows or letters. Others are sent again."""
        ...

    async def give_back(self) -> None:
        """Give messages that were not taken back to a source that shares them: ``take`` is not called again.

        Messages that were taken can still be acknowledged.
        """
        ...

    def abort(self) -> None:
        """End the session at once: ``take`` raises."""
        ...


class Source(Protocol):
    """A source, open or not."""

    name: str
    """The name under which its cursor is kept."""

    @property
    def resumes(self) -> bool:
        """Whether events that are missed now can be read later, as far as is known."""
        ...

    @property
    def shared(self) -> bool:
        """Whether each message goes to one member of the group."""
        ...

    @property
    def partitioned(self) -> bool:
        """Whether a shared source gives messages with one key to the same member, in their order (``ORDER_BY``)."""
        ...

    def open(self, cursor: Callable[[], Awaitable[str | None]]) -> AbstractAsyncContextManager[Session]:
        """Open it; ``SourceEnded`` if that fails. ``cursor`` finds where to continue, if the source wants to know."""
        ...
