"""The watermark: the last cursor up to which everything is settled. Pure.

Positions are opened in the order of receipt and settled in any order. The cursor moves over the settled ones at the
front. Events without a cursor hold it back as well.
"""

from collections import deque
from collections.abc import Iterable

import msgspec


class Position(msgspec.Struct, eq=False, gc=False):
    """The place of events that were received together: their last cursor, and how many are not settled yet."""

    cursor: str | None
    unsettled: int = 1
    reading: int = 0


class Watermark:
    """Tracks how far one source is settled without a gap."""

    def __init__(self, reading: int = 0) -> None:
        """Make one for one reading of the source; ``reading`` numbers the times it is read from a stored cursor."""
        self.reading = reading
        self._open: deque[Position] = deque()
        self.cursor: str | None = None

    def open(self, cursor: str | None, count: int = 1) -> Position:
        """Record that so many events were received; ``cursor`` is the last of theirs."""
        position = Position(cursor, count, self.reading)
        self._open.append(position)
        return position

    def settle(self, positions: Iterable[Position]) -> None:
        """Settle one event at each of these positions, and move the front if possible."""
        for position in positions:
            position.unsettled -= 1
        while self._open and not self._open[0].unsettled:
            front = self._open.popleft()
            if front.cursor is not None:
                self.cursor = front.cursor

    def settle_whole(self, positions: Iterable[Position]) -> None:
        """Settle all events at these positions."""
        for position in positions:
            position.unsettled = 0
        self.settle(())

    @property
    def newest(self) -> str | None:
        """The last cursor received, settled or not."""
        return next((one.cursor for one in reversed(self._open) if one.cursor is not None), self.cursor)

    @property
    def waiting(self) -> int:
        """How many events are not settled yet."""
        return sum([position.unsettled for position in self._open])
