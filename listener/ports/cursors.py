"""Up to where a group has settled everything that a source sent.

What fails raises ``Transient`` (the call may have taken effect all the same, or may do so later) or
``Permanent`` (it can never succeed as it stands).
"""

from typing import Protocol

from unlost.listener.core.store_mark import StoreMark


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
