"""The books, as pure data: each accepted event stands in exactly one column, or something is wrong.

row: it is stored. letter: it is an unresolved dead letter. in flight: a listener holds it. waiting: it
stands behind the group's cursor, still to be read. unread: it stands there too, but no listener of the group is alive,
so nobody reads it. Whatever is in none of them is *missing*; what is a
row and an unresolved letter at once, or more than one letter, is *doubled*; a row whose content is not what the
journal has is *differing*; a row that no handler has seen, where the group has one, is *unhandled*. An event that
was sent once more (redelivered) is one event.

Of the journal itself: *dropped* entries were removed by retention before a group had read them. *Damaged* is an event
of which the journal has no whole entry; it is never sent, so it is missing too, unless it is a row or a letter already.

An id is remembered by a hash of 64 bits, about 70 bytes an event.
"""

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

Digests = dict[str, set[str]]
"""Events that are neither a row nor a letter yet, each with the digests under which the journal has it."""


class Accepted(Protocol):
    """One entry of the journal."""

    @property
    def event_id(self) -> str:
        """Its id."""

    @property
    def digest(self) -> str:
        """Of its content, in hex digits."""

    @property
    def state(self) -> str:
        """``whole``, ``damaged`` or ``dropped``."""


class Row(NamedTuple):
    """What a row says of how it was stored; ``handled``: by the group's handler, or the group has none."""

    digest: str
    handled: bool = True


@dataclass(slots=True)
class Account:
    """The sums so far, and the ids that need somebody's eyes."""

    accepted: int = 0
    redelivered: int = 0
    rows: int = 0
    letters: int = 0
    in_flight: int = 0
    waiting: int = 0
    unread: int = 0
    missing: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    differing: dict[str, str] = field(default_factory=dict)
    """Rows whose digest the journal does not have, as far as it has been read."""
    unhandled: list[str] = field(default_factory=list)
    dropped: int = 0
    damaged: set[str] = field(default_factory=set)
    """Events of which the journal has no whole entry, as far as it has been read."""
    damaged_lines: int = 0
    is_retained: bool = True
    """Whether retention keeps for the group what it has not read."""
    left: Digests = field(default_factory=dict)
    _seen: set[int] = field(default_factory=set)

    @property
    def is_balanced(self) -> bool:
        """Whether every accepted event is in exactly one place as it was accepted, or will be, and all was read."""
        return not (
            self.missing or self.doubled or self.differing or self.unhandled or self.dropped or self.damaged_lines
            or self.unread
        )  # fmt: skip

    def counts(self) -> dict[str, int]:
        """Each column's sum."""
        return {
            "accepted": self.accepted,
            "redelivered": self.redelivered,
            "rows": self.rows,
            "letters": self.letters,
            "in_flight": self.in_flight,
            "waiting": self.waiting,
            "unread": self.unread,
            "missing": len(self.missing),
            "doubled": len(self.doubled),
            "differing": len(self.differing),
            "unhandled": len(self.unhandled),
            "dropped": self.dropped,
            "damaged": len(self.damaged),
            "damaged_lines": self.damaged_lines,
        }

    def ids(self) -> dict[str, list[str]]:
        """The events that need somebody's eyes, by what is wrong with them."""
        return {
            "missing": self.missing, "doubled": self.doubled, "differing": [*self.differing],
            "unhandled": self.unhandled, "damaged": sorted(self.damaged),
        }  # fmt: skip

    def accept(self, entries: Iterable[Accepted], rows: Mapping[str, Row], letters: Mapping[str, int]) -> None:
        """Enter a page of the journal; ``rows`` holds each event in it that is a row."""
        new: Digests = {}
        for entry in entries:
            known = hash(entry.event_id)
            if entry.state == "damaged" and known not in self._seen:
                self.damaged.add(entry.event_id)
            elif entry.state != "damaged":
                self.damaged.discard(entry.event_id)
            if known not in self._seen:
                self._seen.add(known)
                self.accepted += 1
                new[entry.event_id] = {entry.digest}
                continue
            self.redelivered += 1
            for waiting in (new, self.left):
                if entry.event_id in waiting:
                    waiting[entry.event_id].add(entry.digest)
            if self.differing.get(entry.event_id) == entry.digest:  # the same value, written another way
                del self.differing[entry.event_id]
        self.left |= self._entered(new, rows, letters)

    def look_again(self, rows: Mapping[str, Row], letters: Mapping[str, int]) -> None:
        """Enter what has become a row or a letter meanwhile."""
        self.left = self._entered(self.left, rows, letters)

    def _entered(self, events: Digests, rows: Mapping[str, Row], letters: Mapping[str, int]) -> Digests:
        """Enter what is a row or a letter; what is neither."""
        left: Digests = {}
        for event_id, digests in events.items():
            unresolved = letters.get(event_id, 0)
            if event_id in rows:
                self.rows += 1
                if rows[event_id].digest not in digests:
                    self.differing[event_id] = rows[event_id].digest
                if not rows[event_id].handled:
                    self.unhandled.append(event_id)
            elif unresolved:
                self.letters += 1
            else:
                left[event_id] = digests
            if unresolved > (0 if event_id in rows else 1):
                self.doubled.append(event_id)
        return left

    def close(self, in_flight: AbstractSet[str], waiting: AbstractSet[str], *, is_read: bool = True) -> None:
        """Enter what was left open, now that everybody has been asked. ``is_read``: the group has a live listener."""
        for event_id in self.left:
            if event_id in in_flight:
                self.in_flight += 1
            elif event_id in waiting and event_id not in self.damaged:
                self.waiting += is_read
                self.unread += not is_read
            else:
                self.missing.append(event_id)
        self.left = {}
