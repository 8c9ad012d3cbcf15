"""The table of events. Its primary key decides that an event is stored once.

A failed call raises ``Transient`` (it may have taken effect, or may still do so) or ``Permanent`` (it can never succeed
as it is).
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import msgspec

from unlost.listener.core.claim import ClaimRequest, Dead, Done
from unlost.listener.core.event import Edited, Event

HandlerConnection: TypeAlias = object
"""The connection that a handler gets, to share the transaction. Only the store and the handler know its type,
``asyncpg.Connection``.
"""


class NewRow(msgspec.Struct, frozen=True, gc=False):
    """An event to store as a row. ``revives``: it comes from a dead letter, so its burial does not prevent the row.

    ``edited``: the letter was edited, and the row names the version. ``order_key``: an earlier letter of this key
    prevents the row.
    """

    event: Event
    epoch: int
    attempts: int
    received_at: float
    revives: bool = False
    edited: Edited | None = None
    order_key: str | None = None


class Inserted(msgspec.Struct, frozen=True, tag=True, gc=False):
    """This call wrote the row."""


class SameRow(msgspec.Struct, frozen=True, tag=True, gc=False):
    """The row existed already, with the same content."""


class OtherRow(msgspec.Struct, frozen=True, tag=True, gc=False):
    """A row with this id existed already, with other content."""


class Behind(msgspec.Struct, frozen=True, tag=True, gc=False):
    """The row was not tried: an earlier one of its key in this batch was not stored with it."""


class Blocked(msgspec.Struct, frozen=True, tag=True, gc=False):
    """There is no row, since an earlier event of the same key is a dead letter."""


Result = Inserted | SameRow | OtherRow | Dead | Blocked | Behind
"""``Dead``: there is no row and there may be none, since the event is a dead letter."""

INSERTED, SAME_ROW, OTHER_ROW, BLOCKED, BEHIND = Inserted(), SameRow(), OtherRow(), Blocked(), Behind()


class KeptConnection(Protocol):
    """A connection on which the next transaction has begun."""

    async def give_back(self) -> None:
        """End that transaction, which did nothing, and release the connection."""


class TransactionPipeline:
    """The connection that a worker keeps from one event to the next. ``more``: whether another event follows at once.

    A transaction that has begun holds nothing but its connection. A worker that must wait for anything calls ``rest``
    first.
    """

    __slots__ = ("kept", "more")

    def __init__(self, more: Callable[[], bool]) -> None:
        self.more = more
        self.kept: KeptConnection | None = None

    async def rest(self) -> None:
        """Release the kept connection, if any."""
        kept, self.kept = self.kept, None
        if kept is not None:
            await kept.give_back()


class Rows(Protocol):
    """The table of events. Its primary key decides that an event is stored once."""

    async def insert(self, rows: Sequence[NewRow]) -> list[Result]:
        """Store a batch: all of it, or an error. Each row gets its own result.

        Events of one key may be in it in their order, unless they are revived. Those behind the first that is not
        inserted are not tried: no row becomes visible before the one that it follows.
        """
        ...

    async def insert_with(
        self,
        row: NewRow,
        work: Callable[[HandlerConnection], Awaitable[None]],
        transactions: TransactionPipeline | None = None,
    ) -> Result:
        """Store one event and do ``work`` in the same transaction, unless the row exists or the event is buried.

        In a pipeline of transactions, this one may have begun with the previous commit, and the next one may begin
        with this commit.
        """
        ...

    async def probe(self) -> None:
        """Test whether rows are accepted: take the locks of an insert and wait for a commit, but store nothing."""
        ...

    async def settled(self, requests: Sequence[ClaimRequest]) -> dict[str, Done | Dead]:
        """Return which of these are rows or burials, each with whether the content's digest is the same."""
        ...

    async def blocked(self, keys: Mapping[str, str]) -> set[str]:
        """Return those of these events, each with its key, whose key is blocked by an earlier letter."""
        ...

    async def any_stops(self, *, unsaid: bool) -> bool:
        """Return whether a letter that stops reading blocks a key. ``unsaid``: whether those count that say nothing."""
        ...

    async def page(self, before: int | None, limit: int) -> list[dict[str, Any]]:
        """Return up to ``limit`` rows, newest first, with a ``seq`` below ``before``."""
        ...

    async def one(self, event_id: str) -> dict[str, Any] | None:
        """Return the row of this event."""
        ...

    async def same_content(self, event: Event) -> bool | None:
        """Whether the row of this id has the same content as JSON values, or is of an edited letter with this content.

        None without a row.
        """
        ...
