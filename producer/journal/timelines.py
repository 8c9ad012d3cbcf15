"""The timelines of a journal, and the cursors that name them. Pure.

Each start of a producer begins a timeline, as each leader of a Kafka partition begins an epoch. A journal restored from
a backup continues from an older number. A number alone could then be mistaken for a number of the lost history. So a
cursor, ``<journal>.t<ordinal>-<random>.<number>``, names the timeline in which its entry was written:

    a known timeline       both histories share it up to its end here: continue there
    an unknown timeline    several starts were lost: continue at the oldest entry
    another journal        the same

Events that were settled already are then sent again, and the listener recognises them as duplicates.
"""

import secrets
from bisect import bisect_right
from collections.abc import Sequence

import msgspec

from unlost.listener.core.cursor import parse_cursor

EMPTY_KEPT = 16
"""How many empty timelines are kept. A producer that restarts again and again creates nothing but empty ones."""


class Timeline(msgspec.Struct, frozen=True):
    """One start of the producer. Its entries begin at ``first`` and end where the next timeline begins."""

    ordinal: int
    random: str
    first: int


class Start(msgspec.Struct, frozen=True):
    """Where a stream continues after a cursor. ``is_known``: the stream continues right after it, without a gap."""

    number: int
    is_known: bool


class _History:
    """The timelines at one moment."""

    def __init__(self, identity: str, timelines: Sequence[Timeline]) -> None:
        self.places = {(one.ordinal, one.random): place for place, one in enumerate(timelines)}
        self.firsts = [one.first for one in timelines]
        self.stems = [f"{identity}.t{one.ordinal}-{one.random}." for one in timelines]
        self.present_from = self.firsts[-1]
        self.present_stem = self.stems[-1]


class Timelines:
    """All timelines of a journal, in order. The last one is the current one.

    Where several producers share a journal, others begin timelines too. ``learn`` replaces all of them at once, so that
    any thread reads one moment's history.
    """

    def __init__(self, identity: str, timelines: Sequence[Timeline]) -> None:
        self._identity = identity
        self.learn(timelines)

    def learn(self, timelines: Sequence[Timeline]) -> None:
        """Replace the known timelines."""
        self._history = _History(self._identity, timelines)

    @property
    def stem(self) -> str:
        """The part before the number in the cursors of new entries."""
        return self._history.present_stem

    def cursor(self, number: int) -> str:
        """The cursor of the entry with this number."""
        return f"{self.stem_of(number)}{number}"

    def stem_of(self, number: int) -> str:
        """The part before the number in the cursor of this entry."""
        history = self._history
        if number >= history.present_from:
            return history.present_stem
        return history.stems[max(0, bisect_right(history.firsts, number) - 1)]

    def start_after(self, cursor: str, bounds: tuple[int, int]) -> Start:
        """Where a stream continues after this cursor. ``bounds``: see ``Journal``."""
        before_oldest, newest = bounds
        history = self._history
        place = parse_cursor(cursor)
        index = None if place is None or place.journal != self._identity else history.places.get(place.timeline)
        if place is None or index is None or (index and place.number < history.firsts[index]):
            return Start(before_oldest, is_known=False)
        end = history.firsts[index + 1] - 1 if index + 1 < len(history.firsts) else newest
        number = min(place.number, end)
        return Start(max(number, before_oldest), is_known=before_oldest <= number == place.number)

    def number_of(self, cursor: str, bounds: tuple[int, int]) -> int | None:
        """The number in this cursor if everything after it can still be read, else None."""
        start = self.start_after(cursor, bounds)
        return start.number if start.is_known else None

    def shared_up_to(self, cursor: str, newest: int) -> int | None:
        """Up to which number of this journal the owner of this cursor has read, or None if that is unknown."""
        start = self.start_after(cursor, (-1, newest))
        return None if start.number < 0 else start.number


def next_timeline(known: Sequence[Timeline], newest: int, now: float) -> Timeline:
    """The timeline of a new start. Its ordinal is a time, so it also exceeds the ordinals of lost starts."""
    least = known[-1].ordinal + 1 if known else 1
    return Timeline(max(least, int(now * 1000)), secrets.token_hex(4), newest + 1)


def still_needed(known: Sequence[Timeline], before_oldest: int) -> list[Timeline]:
    """Remove timelines whose entries are all gone, and all but a few that never had an entry."""
    ends = [one.first - 1 for one in known[1:]]
    needed: list[Timeline] = []
    empty = 0
    for one, end in reversed(list(zip(known, ends, strict=False))):
        empty += end < one.first
        if end >= before_oldest and (end >= one.first or empty <= EMPTY_KEPT):
            needed.append(one)
    return [*reversed(needed), *known[-1:]]
