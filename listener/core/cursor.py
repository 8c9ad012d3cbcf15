"""What a cursor says. Pure.

A cursor is opaque but for one thing: digits at its end count. One of our own journal says more,
``<journal>.t<ordinal>-<random>.<number>``: which journal, in which of its timelines the entry was written, and the
entry's number. A timeline begins with each start of a producer on the journal (``producer/journal/timelines.py``).
Within one journal a later timeline is further than an earlier one, whatever the numbers are.
"""

import re
from decimal import Decimal

import msgspec

NUMBER_DIGITS = 18
OURS = r"([0-9a-f]{12}[.])t([0-9]{1,18})-([0-9a-f]{8})[.]([0-9]{1,18})"
"""Read alike by Python and PostgreSQL."""

_ours = re.compile(OURS)
_digits = re.compile(r"[0-9]{1,100}$")


class Place(msgspec.Struct, frozen=True, order=True):
    """What a cursor of our own journal says. In one journal, places are ordered as they are followed."""

    journal: str
    ordinal: int
    random: str
    number: int

    @property
    def timeline(self) -> tuple[int, str]:
        """In which the entry was written."""
        return self.ordinal, self.random


def place_of(cursor: str) -> Place | None:
    """What a cursor of our own journal says; None for any other."""
    found = _ours.fullmatch(cursor)
    return None if found is None else Place(found[1][:-1], int(found[2]), found[3], int(found[4]))


def stem_of(cursor: str) -> str:
    """What two cursors must have in common to be compared."""
    found = _ours.fullmatch(cursor)
    return _digits.sub("", cursor) if found is None else found[1]


def ordinal_of(cursor: str) -> Decimal | None:
    """Which of two cursors with the same stem is further; None where there is no telling."""
    place = place_of(cursor)
    if place is not None:
        # Of whole numbers: in sums of its own, Decimal keeps 28 digits.
        return Decimal(place.ordinal * 10**NUMBER_DIGITS + place.number)
    digits = _digits.search(cursor)
    return Decimal(digits.group()) if digits else None


def goes_back(stored: str, unknown: str, start: str) -> bool:
    """Whether the group's cursor is to be set back to where the stream starts, after the source did not know one.

    Only a cursor of the timeline, or the journal, that the source did not know, and never forward: what lies between
    is not settled. One that a peer has moved on since stands.
    """
    there, lost, here = place_of(stored), place_of(unknown), place_of(start)
    if there is None or lost is None or here is None:
        return False
    if there.journal != here.journal:
        return there.journal == lost.journal
    # Where retention left a gap, ``lost`` stands before ``here``, and what a peer saved since can still be read.
    return there.timeline == lost.timeline and min(there, lost) > here
