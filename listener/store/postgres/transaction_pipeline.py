"""Transactions that follow each other: where another event waits, the message that commits one begins the next."""

from collections.abc import Callable
from typing import Protocol


class Kept(Protocol):
    """A connection whose next transaction has begun."""

    async def give_back(self) -> None:
        """End that transaction, of which nothing came, and let others have the connection."""


class Series:
    """What one who handles event after event keeps between two of them. ``more`` tells whether another follows at once.

    What has begun holds nothing but a connection. Who has to wait for anything rests before.
    """

    __slots__ = ("kept", "more")

    def __init__(self, more: Callable[[], bool]) -> None:
        self.more = more
        self.kept: Kept | None = None

    async def rest(self) -> None:
        """Keep nothing."""
        kept, self.kept = self.kept, None
        if kept is not None:
            await kept.give_back()
