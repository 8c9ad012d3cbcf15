"""Finds holes in the numbers of events. Pure."""

from collections import OrderedDict
from typing import Protocol

import msgspec

from unlost.listener.core.gap import Gap, How

MOST_COUNTED = 100_000
"""How many names are counted separately. Beyond it, the name without numbers for longest is forgotten."""


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
    """Numbers that were skipped, both ends included."""

    by: str
    first: int
    last: int

    @property
    def count(self) -> int:
        """How many numbers are missing."""
        return self.last - self.first + 1

    def named(self, number: int) -> str:
        """Return a number with the name under which it is counted."""
        return f"{self.by}:{number}" if self.by else str(number)


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


class Numbers:
    """Compares each number with the last one of its name. Repeated and late numbers are ignored."""

    def __init__(self) -> None:
        self.last: OrderedDict[str, int] = OrderedDict()
        self.first: dict[str, int] = {}
        """The first number of each name, unless one before it is known."""

    def take(self, by: str, number: int) -> Hole | None:
        """Take the next number; return what was skipped before it."""
        last = self.last.get(by)
        if last is None:
            self.put(by, number, number)
            return None
        if number <= last:
            return None
        self.last[by] = number
        if len(self.last) > MOST_COUNTED // 2:  # only then does it matter which was quiet
            self.last.move_to_end(by)
        return None if number == last + 1 else Hole(by, last + 1, number - 1)

    def put(self, by: str, first: int | None, last: int) -> None:
        """Set the numbers of a name."""
        self.last[by] = last
        self.last.move_to_end(by)
        self.first.pop(by, None)
        if first is not None:
            self.first[by] = first
        if len(self.last) > MOST_COUNTED:
            self.first.pop(self.last.popitem(last=False)[0], None)
