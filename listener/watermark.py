"""The watermark: the last cursor before which everything is settled. Pure.

Positions are opened in the order of receipt and settled in any order; the cursor moves over the
settled ones at the front. Events without a cursor hold it back just the same.
"""

from collections import deque


class Position:
    """One event's place in what was received."""

    __slots__ = ("cursor", "settled")

    def __init__(self, cursor: str | None) -> None:
        self.cursor = cursor
        self.settled = False


class Watermark:
    """Follows the settled front of one source."""

    def __init__(self) -> None:
        self._open: deque[Position] = deque()
        self.cursor: str | None = None

    def open(self, cursor: str | None) -> Position:
        """A new event was received, at ``cursor``."""
        position = Position(cursor)
        self._open.append(position)
        return position

    def settle(self, position: Position) -> None:
        """The event at ``position`` is settled: the front may move."""
        position.settled = True
        while self._open and self._open[0].settled:
            front = self._open.popleft()
            if front.cursor is not None:
                self.cursor = front.cursor

    @property
    def waiting(self) -> int:
        """How many positions stand behind the front."""
        return len(self._open)
