"""Finds what is missing in the numbers of a feed, across its connections. Pure.

While one connection replaces another, each delivers a part: a faster one is ahead, and is no proof that the other's
events are lost. So holes are kept until the old connection has ended. Numbers that neither has are declared then.
"""

import math
from collections.abc import Callable, Mapping, Sequence

from unlost.listener.source.feed.gaps import Hole, Numbers

Span = tuple[float, float]
"""Numbers from the first to the last, or without an end."""
MOST_HOLES = 10_000
"""How many holes are kept; further ones are declared at once."""


class Count:
    """The numbers of one connection, and of those that it has replaced."""

    def __init__(self) -> None:
        self.numbers = Numbers()
        self.holes: dict[str, list[Span]] = {}
        self._kept = 0

    def keep(self, hole: Hole) -> bool:
        """Keep a hole that another connection may fill; False if there are too many, or if its size is unknown."""
        if hole.missing is None:
            return False
        self._kept += 1
        if self._kept <= MOST_HOLES:
            self.holes.setdefault(hole.by, []).append((hole.first, hole.last))
        return self._kept <= MOST_HOLES

    def missing(self, by: str) -> Sequence[Span]:
        """Return the numbers that it lacks: before its first one, between, and after its last one."""
        last = self.numbers.last.get(by)
        if last is None:
            return [(-math.inf, math.inf)]
        first = self.numbers.first.get(by)
        before = [] if first is None else [(-math.inf, first - 1)]
        return [*before, *self.holes.get(by, ()), (last + 1, math.inf)]

    def join(self, other: "Count") -> None:
        """Add the numbers of a connection that has ended."""
        for by in other.numbers.last:
            *spans, (end, _) = both(self.missing(by), other.missing(by))
            first = spans.pop(0)[1] + 1 if spans and spans[0][0] == -math.inf else None
            self.numbers.join(by, None if first is None else int(first), int(end) - 1)
            self.holes[by] = spans

    def take_holes(self) -> Sequence[Hole]:
        """Return what is missing, since nothing else can fill it any more."""
        found = [Hole(by, int(first), int(last)) for by, spans in self.holes.items() for first, last in spans]
        self.holes.clear()
        self.numbers.first.clear()
        self._kept = 0
        return found


def both(one: Sequence[Span], other: Sequence[Span]) -> list[Span]:
    """Return what is in both. Spans are in order, and do not touch."""
    found: list[Span] = []
    at = beside = 0
    while at < len(one) and beside < len(other):
        first, last = max(one[at][0], other[beside][0]), min(one[at][1], other[beside][1])
        if first <= last:
            found.append((first, last))
        if one[at][1] < other[beside][1]:
            at += 1
        else:
            beside += 1
    return found


class Counting:
    """The numbers of all connections. ``declare`` declares a hole.

    ``apart``: each has numbers of its own. ``rereads``: a connection may begin with events of the one before.
    """

    def __init__(self, declare: Callable[[Hole], None], *, apart: bool, rereads: bool = False) -> None:
        self._declare = declare
        self._apart = apart
        self._rereads = rereads
        self._counts: list[Count] = []
        self._last = Count()
        self._has_numbers = False

    def begin(self) -> Count:
        """Return the count of a new connection."""
        count = Count() if self._apart or self._counts else self._last
        count.numbers.begin(rereads=self._rereads)
        if not self._apart:
            self._counts.append(count)
        return count

    def take(self, count: Count, sequence: tuple[str, int], cursor: str | None) -> None:
        """Take the number of an event that came by a connection, and the event's cursor."""
        self._has_numbers = True
        if (hole := count.numbers.take(*sequence, cursor)) is not None:
            self._found(count, hole)

    def numbers(self) -> Mapping[str, int] | None:
        """Return the last number of each name; None if there are none, or none that are counted across connections.

        While several connections deliver, these are the numbers of the oldest: what another lacks may come by it.
        """
        if self._apart or not self._has_numbers:
            return None
        return (self._counts or [self._last])[0].numbers.last

    def follow(self, numbers: Mapping[str, int], *, missed: bool) -> bool:
        """Continue after numbers that were received before this process began; return whether that is possible.

        ``missed``: nobody received those between them and the first ones of this process.
        """
        if self._apart:
            return False
        self._has_numbers = True
        count = (self._counts or [self._last])[0]
        for by, number in numbers.items():
            if (hole := count.numbers.follow(by, number, rereads=self._rereads)) is not None and missed:
                self._declare(hole)
        return True

    def _found(self, count: Count, hole: Hole) -> None:
        if len(self._counts) < 2 or not count.keep(hole):
            self._declare(hole)

    def end(self, count: Count) -> None:
        """Note that a connection has ended, and that all that came by it has been counted."""
        if count not in self._counts:
            return
        self._counts.remove(count)
        if self._counts:
            self._counts[-1].join(count)
        else:
            self._last = count
        if len(self._counts) < 2:
            for hole in (self._counts or [self._last])[-1].take_holes():
                self._declare(hole)

    def end_all(self) -> None:
        """Note that all connections have ended."""
        for count in list(self._counts):
            self.end(count)
