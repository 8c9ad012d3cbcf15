"""Finds holes in the numbers of events. Pure.

A number is compared with the last one of its name. A higher one may leave a hole. A lower one was sent late or again,
and changes nothing, unless it shows that the source counts anew: ``BACK_RUN`` lower numbers follow each other, or a
feed that does not resume begins a connection with one, or the cursor of its event is new. That is declared as well, as
a hole of unknown size, and counting continues from there. So one number that makes no sense hides no later one.
"""

from collections import OrderedDict
from typing import Protocol

import msgspec

from unlost.listener.core.cursor import is_further
from unlost.listener.core.gap import Gap, How

MOST_COUNTED = 100_000
"""How many names are counted separately. Beyond it, the name without numbers for longest is forgotten."""

BACK_RUN = 3
"""After this many lower numbers, each one more than the one before, a source counts anew."""
MOST_MISSING = 10**12
"""A number so far ahead makes no sense, and says nothing about how many are missing."""
LARGEST = 10**30
"""Numbers beyond this are not written out."""


class Declare(Protocol):
    """Declares a gap of a source. ``began_at``: an epoch second.

    ``once``: if all listeners of the group declare this gap, a text by which it is recorded once.
    """

    def __call__(
        self,
        source: str,
        how: How,
        *,
        after: str | None = None,
        resumed_at: str | None = None,
        missing: int | None = None,
        began_at: float | None = None,
        once: str | None = None,
    ) -> object:
        """Declare it."""
        ...


class Hole(msgspec.Struct, frozen=True):
    """Numbers that were skipped, both ends included. If numbers went back, ``last`` is before ``first``."""

    by: str
    first: int
    last: int

    @property
    def missing(self) -> int | None:
        """How many numbers are missing; None if nobody knows."""
        count = self.last - self.first + 1
        return count if 0 < count <= MOST_MISSING else None

    def named(self, number: int) -> str:
        """Return a number with the name under which it is counted."""
        shown = str(number) if abs(number) < LARGEST else "a number of more than 30 digits"
        return f"{self.by}:{shown}" if self.by else shown


def divided(position: str | None) -> tuple[str, int | None]:
    """Divide a position, as ``Hole.named`` writes it, into the name and the number, if it has one."""
    by, _, number = (position or "").rpartition(":")
    return by, int(number) if number.removeprefix("-").isdecimal() else None


def missing_numbers(gap: Gap) -> range | None:
    """Return the numbers that a gap lacks; None if it was not found by numbers."""
    last = divided(gap.after)[1]
    if gap.how != "sequence" or last is None or gap.missing is None:
        return None
    return range(last + 1, last + 1 + gap.missing)


class Run(msgspec.Struct):
    """Lower numbers that follow each other. ``most``: how many of them are no proof yet."""

    first: int | None = None
    last: int | None = None
    most: int = BACK_RUN - 1


class Numbers:
    """Compares each number with the last one of its name."""

    def __init__(self) -> None:
        self.last: OrderedDict[str, int] = OrderedDict()
        self.first: dict[str, int] = {}
        """The first number of each name, unless one before it is known."""
        self.earliest: dict[str, int] = {}
        """The first number of each name since this process began."""
        self._lower: dict[str, Run] = {}
        self._repeats: set[str] = set()
        """Names whose numbers may come again, up to their last ones."""
        self._cursor: str | None = None
        self._known: str | None = None
        """The furthest cursor before numbers may have come again."""

    def begin(self, *, rereads: bool) -> None:
        """Note that a new connection delivers from now on. ``rereads``: it may repeat events of the one before."""
        self._lower = {} if rereads else {by: Run(most=0) for by in self.last}
        self._repeats = set(self.last) if rereads else set()
        if self._cursor is not None and (self._known is None or not is_further(self._known, self._cursor)):
            self._known = self._cursor

    def take(self, by: str, number: int, cursor: str | None = None) -> Hole | None:
        """Take the next number, and the cursor of its event; return what was skipped before it."""
        last = self.last.get(by)
        if last is None:
            self._cursor = cursor or self._cursor
            self.put(by, number, number)
            self.earliest[by] = number
            return None
        if number <= last:
            return self._take_lower(by, number, last, cursor)
        self._cursor = cursor or self._cursor
        self.last[by] = number
        if len(self.last) > MOST_COUNTED // 2:  # only then does it matter which was quiet
            self.last.move_to_end(by)
        if self._lower or self._repeats:
            self._lower.pop(by, None)
            self._repeats.discard(by)
        return None if number == last + 1 else Hole(by, last + 1, number - 1)

    def _take_lower(self, by: str, number: int, last: int, cursor: str | None) -> Hole | None:
        """Take a number that is not higher than the last one."""
        first = number
        if by in self._repeats:
            if cursor is None or self._known is None or not is_further(cursor, self._known):
                return None
        else:
            run = self._lower.setdefault(by, Run())
            if number == run.last or (number == last and run.first is None):
                return None
            if run.first is None or number - 1 != run.last:
                run.first = number
            first, run.last = run.first, number
            if number - first + 1 <= run.most:
                return None
        self._lower.pop(by, None)
        self._repeats.discard(by)
        self._cursor = cursor or self._cursor
        self.put(by, None, number)
        return Hole(by, last + 1, first - 1)

    def follow(self, by: str, number: int, *, rereads: bool) -> Hole | None:
        """Note the last number of a name before this process began; return what was skipped after it."""
        first = self.earliest.get(by)
        if first is None:
            self.put(by, None, number)
            if rereads:
                self._repeats.add(by)
            else:
                self._lower[by] = Run(most=0)
            return None
        if first == number + 1 or (first <= number and (rereads or first == number)):
            return None
        return Hole(by, number + 1, first - 1)

    def join(self, by: str, first: int | None, last: int) -> None:
        """Set the numbers of a name to those of two connections. The remaining one may repeat the other's."""
        if self.last.get(by) != last:
            self._repeats.add(by)
        self.put(by, first, last)

    def put(self, by: str, first: int | None, last: int) -> None:
        """Set the numbers of a name."""
        self.last[by] = last
        self.last.move_to_end(by)
        self.first.pop(by, None)
        if first is not None:
            self.first[by] = first
        if len(self.last) > MOST_COUNTED:
            forgotten = self.last.popitem(last=False)[0]
            for names in (self.first, self.earliest, self._lower):
                names.pop(forgotten, None)
            self._repeats.discard(forgotten)
