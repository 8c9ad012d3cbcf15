"""The watermark: the last cursor up to which everything is settled. Pure.

Positions are opened in the order of receipt and settled in any order. The cursor moves over the settled ones at the
front. Events without a cursor hold it back as well.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec


class Position(msgspec.Struct, eq=False):
    """The position of events that were received together: their last cursor, and how many are not settled yet.

    ``receipt``: what the source gets back once all are settled. ``at``: when they were received.
    """

    cursor: str | None
    of: "Watermark"
    unsettled: int = 1
    receipt: Any = None
    at: float = 0.0

    @property
    def reading(self) -> int:
        """The number of the reading in which they were received: see ``Watermark``."""
        return self.of.reading


class Watermark:
    """Tracks how far one source is settled without a gap."""

    def __init__(
        self, reading: int = 0, acknowledge: Callable[[Sequence[Any]], None] | None = None, *, source: str | None = None
    ) -> None:
        """Make one for one reading of the source of this name.

        ``reading`` numbers the times it is read from a stored cursor. ``acknowledge`` gets receipts of what is settled.
        """
        self.reading = reading
        self.source = source
        self._open: deque[Position] = deque()
        self._acknowledge = acknowledge
        self.cursor: str | None = None
        self.opened = 0
        """How many positions were ever opened."""

    def open(self, cursor: str | None, count: int = 1, receipt: Any = None, at: float = 0.0) -> Position:
        """Record that ``count`` events were received ``at`` this time; ``cursor`` is their last one."""
        self.opened += 1
        position = Position(cursor, self, count, receipt, at)
        self._open.append(position)
        return position

    def advance(self, receipts: Sequence[Any]) -> None:
        """Move the front over everything settled, and pass on the receipts of what has become settled."""
        while self._open and not self._open[0].unsettled:
            front = self._open.popleft()
            if front.cursor is not None:
                self.cursor = front.cursor
        if receipts and self._acknowledge is not None:
            self._acknowledge(receipts)

    def end(self) -> None:
        """Pass on no more receipts: the source is read again, since rows that were settled may be lost."""
        self._acknowledge = None

    @property
    def passed(self) -> int:
        """How many of the opened positions are settled without a gap."""
        return self.opened - len(self._open)

    @property
    def newest(self) -> str | None:
        """The last cursor received, settled or not."""
        return next((one.cursor for one in reversed(self._open) if one.cursor is not None), self.cursor)

    @property
    def oldest_at(self) -> float | None:
        """When the oldest events were received that are not settled; None if all are."""
        return next((position.at for position in self._open if position.unsettled), None)

    @property
    def owes(self) -> bool:
        """Whether the source will get a receipt of something that is not settled yet."""
        return any(position.unsettled and position.receipt is not None for position in self._open)

    @property
    def waiting(self) -> int:
        """How many events are not settled yet."""
        return sum([position.unsettled for position in self._open])


def settle(positions: Iterable[Position]) -> None:
    """Settle one event at each of these positions, of any sources."""
    done: dict[Watermark, list[Any]] = {}
    for position in positions:
        position.unsettled -= 1
        if not position.unsettled:
            receipts = done.setdefault(position.of, [])
            if position.receipt is not None:
                receipts.append(position.receipt)
    for watermark, receipts in done.items():
        watermark.advance(receipts)


def settle_whole(positions: Sequence[Position]) -> None:
    """Settle all events at these positions."""
    for position in positions:
        position.unsettled = 1
    settle(positions)
