"""The table of events, whose primary key decides that an event is stored once.

What fails raises ``Transient`` (the call may have taken effect all the same, or may do so later) or
``Permanent`` (it can never succeed as it stands).
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeAlias

import asyncpg
import msgspec

from unlost.listener.core.claim import ClaimRequest, Dead, Done
from unlost.listener.core.event import Event

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
"""What a handler is given to share the transaction."""


class NewRow(msgspec.Struct, frozen=True, gc=False):
    """An event that is to become a row."""

    event: Event
    epoch: int
    attempts: int
    received_at: float


class Stored(msgspec.Struct, frozen=True, tag=True, gc=False):
    """The row is ours."""


class Duplicate(msgspec.Struct, frozen=True, tag=True, gc=False):
    """The row was there already, with the same content."""


class Conflict(msgspec.Struct, frozen=True, tag=True, gc=False):
    """A row of this id was there already, with other content."""


Result = Stored | Duplicate | Conflict | Dead
"""``Dead``: there is no row, and none may come to be, since the event is a dead letter."""

STORED, DUPLICATE, CONFLICT = Stored(), Duplicate(), Conflict()


class KeptConnection(Protocol):
    """A connection whose next transaction has begun."""

    async def give_back(self) -> None:
        """End that transaction, of which nothing came, and let others have the connection."""


class TransactionPipeline:
    """What one who handles event after event keeps between two of them. ``more`` tells whether another follows at once.

    What has begun holds nothing but a connection. Who has to wait for anything rests before.
    """

    __slots__ = ("kept", "more")

    def __init__(self, more: Callable[[], bool]) -> None:
        self.more = more
        self.kept: KeptConnection | None = None

    async def rest(self) -> None:
        """Keep nothing."""
        kept, self.kept = self.kept, None
        if kept is not None:
            await kept.give_back()


class Rows(Protocol):
    """The table whose primary key decides that an event is stored once."""

    async def insert(self, rows: Sequence[NewRow]) -> list[Result]:
        """Store a batch: all of it, or an error; each row is told apart."""
        ...

    async def insert_with(
        self, row: NewRow, work: Callable[[Connection], Awaitable[None]], series: TransactionPipeline | None = None
    ) -> Result:
        """Store one event and do ``work`` on the same transaction; not where the row exists or the event is buried.

        In a series, the transaction may have begun with the commit of the one before, and that of the next may begin.
        """
        ...

    async def probe(self) -> None:
        """Store nothing, but take the locks of an insert and wait for a commit as one does: whether rows are taken."""
        ...

    async def settled(self, requests: Sequence[ClaimRequest]) -> dict[str, Done | Dead]:
        """Which of these are rows or burials, each with whether the digest of the content is the same too."""
        ...

    async def page(self, before: int | None, limit: int) -> list[dict[str, Any]]:
        """Up to ``limit`` rows, newest first, with a ``seq`` below ``before``."""
        ...

    async def one(self, event_id: str) -> dict[str, Any] | None:
        """The row of this event."""
        ...

    async def same_content(self, event: Event) -> bool | None:
        """Whether the row of this id has the same content as JSON values; None without a row."""
        ...
