"""The watermark: the last cursor before which everything is settled. Pure.

Positions are opened in the order of receipt and settled in any order; the cursor moves over the
settled ones at the front. Events without a cursor hold it back just the same.
"""

from collections import deque
from collections.abc import Iterable

import msgspec


class Position(msgspec.Struct, eq=False, gc=False):
    """Where events stand that were received together: the last cursor among them, and how many are not settled."""

    cursor: str | None
    unsettled: int = 1
    reading: int = 0


class Watermark:
    """Follows the settled front of one source."""

    def __init__(self, reading: int = 0) -> None:
        """Make one, for the so manieth time that the source is read from a stored cursor."""
        self.reading = reading
        self._open: deque[Position] = deque()
        self.cursor: str | None = None

    def open(self, cursor: str | None, count: int = 1) -> Position:
        """So many events were received, and this is the last cursor that they told."""
        position = Position(cursor, count, self.reading)
        self._open.append(position)
        return position

    def settle(self, positions: Iterable[Position]) -> None:
        """One event at each of these positions is settled: the front may move."""
        for position in positions:
            position.unsettled -= 1
        while self._open and not self._open[0].unsettled:
            front = self._open.popleft()
            if front.cursor is not None:
                self.cursor = front.cursor

    def settle_whole(self, positions: Iterable[Position]) -> None:
        """All events at these positions are settled."""
        for position in positions:
            position.unsettled = 0
        self.settle(())

    @property
    def newest(self) -> str | None:
        """The last cursor that was received, settled or not."""
        return next((one.cursor for one in reversed(self._open) if one.cursor is not None), self.cursor)

    @property
    def waiting(self) -> int:
        """How many events are not settled."""
        return sum([position.unsettled for position in self._open])
