"""The account, as pure data: each accepted event is in exactly one column, or something is wrong.

Columns: *row* (stored), *letter* (an unresolved dead letter), *in flight* (a listener holds it), *waiting* (after the
group's cursor, still to be read), *unread* (like waiting, but the group has no live listener to read it).

Problems: an event in no column is *missing*. An event with a row and an unresolved letter, or with several letters, is
*doubled*. A row whose content differs from the journal is *differing*. A row that no handler has processed, although
the group had one by then, is *unhandled*. A redelivered event counts as one event.

A declared *gap* is not a problem of the account: the listener reported that it did not receive these events.

Problems of the journal: *dropped* entries were removed by retention before a group had read them. A *damaged* event has
no intact entry in the journal. It is never sent, so it is missing too, unless it is a row or a letter already.

Each id is remembered by a 64-bit hash, at about 70 bytes per event.
"""

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

Digests = dict[str, set[str]]
"""Events that are neither a row nor a letter yet, each with its digests in the journal."""


WRONG = ("missing", "doubled", "differing", "unhandled", "dropped", "damaged_lines", "unread")
"""The columns whose sums should be 0."""


class JournalEntry(Protocol):
    """One entry of the journal."""

    @property
    def event_id(self) -> str:
        """The event's id."""

    @property
    def digest(self) -> str:
        """The digest of its content, in hex digits."""

    @property
    def state(self) -> str:
        """``whole``, ``damaged`` or ``dropped``."""


class Row(NamedTuple):
    """A row as the audit needs it. ``handled``: a handler has processed it, or the group had none then."""

    digest: str
    handled: bool = True


@dataclass(slots=True)
class Account:
    """The sums so far, and the ids of events with problems."""

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
    """Rows whose digest is not in the journal, as far as it has been read."""
    unhandled: list[str] = field(default_factory=list)
    dropped: int = 0
    gaps: int = 0
    """Declared gaps of sources. Their events are in no column."""
    damaged: set[str] = field(default_factory=set)
    """Events without an intact entry in the journal, as far as it has been read."""
    damaged_lines: int = 0
    is_retained: bool = True
    """Whether retention keeps events that the group has not read."""
    left: Digests = field(default_factory=dict)
    _seen: set[int] = field(default_factory=set)

    @property
    def is_balanced(self) -> bool:
        """Whether every accepted event is, or will be, unchanged in exactly one place, and every line could be read."""
        return not self.wrong()

    def wrong(self) -> dict[str, int]:
        """The sums that should be 0 and are not."""
        sums = self.counts()
        return {name: sums[name] for name in WRONG if sums[name]}

    def counts(self) -> dict[str, int]:
        """The sum of each column."""
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
            "gaps": self.gaps,
            "damaged": len(self.damaged),
            "damaged_lines": self.damaged_lines,
        }

    def ids(self) -> dict[str, list[str]]:
        """The ids of events with problems, by problem."""
        return {
            "missing": self.missing, "doubled": self.doubled, "differing": [*self.differing],
            "unhandled": self.unhandled, "damaged": sorted(self.damaged),
        }  # fmt: skip

    def accept(self, entries: Iterable[JournalEntry], rows: Mapping[str, Row], letters: Mapping[str, int]) -> None:
        """Enter a page of the journal; ``rows`` holds those of its events that have a row."""
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
            if self.differing.get(entry.event_id) == entry.digest:  # the same JSON value in another notation
                del self.differing[entry.event_id]
        self.left |= self._entered(new, rows, letters)

    def look_again(self, rows: Mapping[str, Row], letters: Mapping[str, int]) -> None:
        """Enter events that have become a row or a letter since the last check."""
        self.left = self._entered(self.left, rows, letters)

    def _entered(self, events: Digests, rows: Mapping[str, Row], letters: Mapping[str, int]) -> Digests:
        """Enter events that are a row or a letter; return the others."""
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

    def look_again_at_doubled(self, rows: AbstractSet[str], letters: Mapping[str, int]) -> None:
        """Keep those that are doubled still. A letter may have become a row between two queries.

        ``rows``: the events among them that have a row.
        """
        self.doubled = [one for one in self.doubled if letters.get(one, 0) > (0 if one in rows else 1)]

    def close(self, in_flight: AbstractSet[str], waiting: AbstractSet[str], *, is_read: bool = True) -> None:
        """Enter the remaining events, after all parts have been queried. ``is_read``: the group has a live listener."""
        for event_id in self.left:
            if event_id in in_flight:
                self.in_flight += 1
            elif event_id in waiting and event_id not in self.damaged:
                self.waiting += is_read
                self.unread += not is_read
            else:
                self.missing.append(event_id)
        self.left = {}
