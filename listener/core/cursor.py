"""How to read and compare cursors. Pure.

A cursor is opaque, except that digits at its end are a number. A cursor of our own journal is
``<journal>.t<ordinal>-<random>.<number>``: the journal, the timeline in which the entry was written, and the entry's
number. A timeline begins with each start of a producer on the journal (``producer/journal/timelines.py``). Within one
journal a later timeline is further than an earlier one, whatever the numbers are.
"""

import re
from decimal import Decimal

import msgspec

NUMBER_DIGITS = 18
OURS = r"([0-9a-f]{12}[.])t([0-9]{1,18})-([0-9a-f]{8})[.]([0-9]{1,18})"
"""Python and PostgreSQL read this pattern alike."""

_ours = re.compile(OURS)
_digits = re.compile(r"[0-9]{1,100}$")


class ParsedCursor(msgspec.Struct, frozen=True, order=True):
    """A parsed cursor of our own journal. Within one journal, places compare in reading order."""

    journal: str
    ordinal: int
    random: str
    number: int

    @property
    def timeline(self) -> tuple[int, str]:
        """The timeline in which the entry was written."""
        return self.ordinal, self.random


def parse_cursor(cursor: str) -> ParsedCursor | None:
    """Parse a cursor of our own journal; None for any other."""
    found = _ours.fullmatch(cursor)
    return None if found is None else ParsedCursor(found[1][:-1], int(found[2]), found[3], int(found[4]))


def stem_of(cursor: str) -> str:
    """Return the part that two cursors must share to be compared."""
    found = _ours.fullmatch(cursor)
    return _digits.sub("", cursor) if found is None else found[1]


def ordinal_of(cursor: str) -> Decimal | None:
    """Return a number that orders cursors with the same stem; None if they cannot be ordered."""
    place = parse_cursor(cursor)
    if place is not None:
        # Multiply integers: Decimal arithmetic keeps only 28 digits.
        return Decimal(place.ordinal * 10**NUMBER_DIGITS + place.number)
    digits = _digits.search(cursor)
    return Decimal(digits.group()) if digits else None


def is_further(cursor: str, other: str) -> bool:
    """Return whether one cursor is known to be after another: both end with a number, and are alike before it."""
    here, there = ordinal_of(cursor), ordinal_of(other)
    return here is not None and there is not None and here > there and stem_of(cursor) == stem_of(other)


def goes_back(stored: str, unknown: str, start: str) -> bool:
    """Whether to set the group's cursor back to the start of the stream, after the source did not know a cursor.

    Only a cursor of the timeline, or the journal, that the source did not know is set back. It never moves forward: the
    events between are not settled. A cursor that a peer has moved on since is kept.
    """
    there, lost, here = parse_cursor(stored), parse_cursor(unknown), parse_cursor(start)
    if there is None or lost is None or here is None:
        return False
    if there.journal != here.journal:
        return there.journal == lost.journal
    # After a retention gap, ``lost`` is before ``here``; what a peer has saved since can still be read.
    return there.timeline == lost.timeline and min(there, lost) > here
