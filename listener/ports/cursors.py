"""The cursor up to which a group has settled everything that a source sent.

A failed call raises ``Transient`` (it may have taken effect, or may still do so) or ``Permanent`` (it can never succeed
as it is).
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from unlost.listener.core.store_mark import StoreMark


class GroupCursors(Protocol):
    """The settled cursors of whole groups, one for each source."""

    async def database(self) -> str:
        """Return a short, unique name of the database in which they are."""
        ...

    async def start(self, source: str, group: str, cursor: str) -> str:
        """Record where the group starts, if no cursor is recorded yet; return the group's cursor."""
        ...

    async def read(self, source: str, group: str) -> str | None:
        """Return the group's cursor."""
        ...

    async def read_all(self, sources: Sequence[str], group: str) -> Mapping[str, str]:
        """Return the group's cursors of these sources, as far as there are any."""
        ...

    async def advance(self, source: str, group: str, cursor: str, store: StoreMark | None = None) -> str | None:
        """Move the group's cursor forward and return it. An older cursor is ignored.

        A cursor of another of our journals is ignored too: see ``reset``. If ``store`` is given and PostgreSQL is
        another store by now, or went back, nothing moves and None is returned: what was settled may be lost.
        """
        ...

    async def reset(self, source: str, group: str, old: str, new: str) -> str:
        """Set the group's cursor from ``old`` to ``new``, even backwards, if it still is ``old``; return it.

        For a listener whose source answered that it does not know ``old``.
        """
        ...
