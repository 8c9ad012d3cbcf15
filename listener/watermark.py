"""The watermark: the last cursor before which everything is settled. Pure.

Positions are opened in the order of receipt and settled in any order; the cursor moves over the
settled ones at the front. Events without a cursor hold it back just the same.
"""

from collections import deque
from collections.abc import Iterable

import msgspec


class Position(msgspec.Struct, eq=False, gc=False):
    """One event's place in what was received."""

    cursor: str | None
    settled: bool = False


class Watermark:
    """Follows the settled front of one source."""

    def __init__(self) -> None:
        self._open: deque[Position] = deque()
        self.cursor: str | None = None

    def open(self, cursors: Iterable[str | None]) -> list[Position]:
        """New events were received, at these cursors."""
        positions = list(map(Position, cursors))
        self._open.extend(positions)
        return positions

    def settle(self, positions: Iterable[Position]) -> None:
        """The events at these positions are settled: the front may move."""
        for position in positions:
            position.settled = True
        while self._open and self._open[0].settled:
            front = self._open.popleft()
            if front.cursor is not None:
                self.cursor = front.cursor

    @property
    def waiting(self) -> int:
        """How many positions stand behind the front."""
        return len(self._open)
