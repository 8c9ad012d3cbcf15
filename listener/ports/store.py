"""What PostgreSQL promises the engine beside claims: rows, burials, the roll of listeners, cursors. Roles; their
adapters are ``events``, ``burials``, ``roll`` and ``cursors`` next to this file.

What fails raises ``Transient`` (the call may have taken effect all the same, or may do so later) or
``Permanent`` (it can never succeed as it stands).
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

from unlost.listener.core.event import Event
from unlost.listener.core.store_mark import StoreMark
from unlost.listener.ports.claims import Ask, Dead, Done
from unlost.listener.store.postgres.burials import Burial, Loss, Resolved, Standing
from unlost.listener.store.postgres.database import Connection
from unlost.listener.store.postgres.membership import Look
from unlost.listener.store.postgres.rows import NewRow, Result
from unlost.listener.store.postgres.transaction_pipeline import Series


class Rows(Protocol):
    """The table whose primary key decides that an event is stored once."""

    async def insert(self, rows: Sequence[NewRow]) -> list[Result]:
        """Store a batch: all of it, or an error; each row is told apart."""
        ...

    async def insert_with(
        self, row: NewRow, work: Callable[[Connection], Awaitable[None]], series: Series | None = None
    ) -> Result:
        """Store one event and do ``work`` on the same transaction; not where the row exists or the event is buried.

        In a series, the transaction may have begun with the commit of the one before, and that of the next may begin.
        """
        ...

    async def probe(self) -> None:
        """Store nothing, but take the locks of an insert and wait for a commit as one does: whether rows are taken."""
        ...

    async def settled(self, asks: Sequence[Ask]) -> dict[str, Done | Dead]:
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


class Register(Protocol):
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


class ListenerRoll(Protocol):
    """Which listeners live, and in which places each covers what it holds."""

    life_seconds: float
    """How long a row lives after it was refreshed."""
    handler: str | None
    """What this listener's handler is called."""

    async def refresh(self, known: StoreMark | None = None) -> Look:
        """Say that this listener lives, unless its row has expired, and look at the others.

        ``known``: the store as it was seen last; unless it has gone back since, its version is raised.
        """
        ...

    async def declare(self, places: frozenset[str]) -> Look:
        """Write this listener's places, then look; of two that declare at once, the second sees the first."""
        ...

    async def renew(self, generation: str, version: int) -> None:
        """Replace the store's generation, unless a peer has, by one that has come further than this version."""
        ...

    async def leave(self) -> None:
        """Take this listener's row away."""
        ...


class GroupCursors(Protocol):
    """Up to where in a source everything is settled, for a whole group."""

    async def start(self, source: str, group: str, cursor: str) -> str:
        """Record where the group starts, if nobody has; return the group's cursor."""
        ...

    async def read(self, source: str, group: str) -> str | None:
        """The group's cursor."""
        ...

    async def advance(self, source: str, group: str, cursor: str, store: StoreMark | None = None) -> str | None:
        """Move the group's cursor forward, and return it; what would move it back is ignored.

        A cursor of another journal of ours moves nothing either: see ``reset``. None, and nothing is moved, where
        ``store`` is given and PostgreSQL is another store by now, or has gone back: what was settled may be lost.
        """
        ...

    async def reset(self, source: str, group: str, old: str, new: str) -> str:
        """Set the group's cursor from ``old`` to ``new``, back even, where it still is ``old``; return it.

        For who was told by the source that it does not know ``old``.
        """
        ...
