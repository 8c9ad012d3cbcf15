"""A simulated journal: numbered entries and the producer's timelines, and restorable copies of both.

The product's own code builds cursors and decides where a stream continues (``producer/journal/timelines.py``).
"""

import msgspec

from unlost.producer.journal.timelines import Start, Timeline, Timelines, next_timeline, still_needed


class Entry(msgspec.Struct, frozen=True):
    """One accepted frame. ``serial`` counts everything ever accepted, including what a restore has lost."""

    serial: int
    frame: bytes
    body: bytes
    cursor: str


class Copy(msgspec.Struct, frozen=True):
    """The content of a backup."""

    identity: str
    entries: tuple[Entry, ...]
    removed: int
    known: tuple[Timeline, ...]


class Journal:
    """The file, and the producer's start that has it open."""

    def __init__(self) -> None:
        self._files = self._starts = 0
        self.entries: list[Entry] = []
        """The first entry has the number 1."""
        self.removed = 0
        """Up to which number retention has removed entries."""
        self._known: list[Timeline] = []
        self._identity = self._new_identity()
        self.timelines: Timelines

    def begin(self, now: float) -> None:
        """A producer starts."""
        self._starts += 1
        begun = next_timeline(self._known, self.newest, now)
        begun = msgspec.structs.replace(begun, random=f"{self._starts:08x}")  # a seed runs the same everywhere
        self._known = still_needed([*self._known, begun], self.removed)
        self.timelines = Timelines(self._identity, self._known)

    @property
    def newest(self) -> int:
        """The number of the last entry."""
        return len(self.entries)

    def start_after(self, cursor: str) -> Start:
        """Where a stream continues after this cursor."""
        return self.timelines.start_after(cursor, (self.removed, self.newest))

    def back_up(self) -> Copy:
        """A copy of the file as it is."""
        return Copy(self._identity, tuple(self.entries), self.removed, tuple(self._known))

    def restore(self, copy: Copy) -> None:
        """Put a copy in place. No producer may run."""
        self._identity, self.entries, self.removed = copy.identity, list(copy.entries), copy.removed
        self._known = list(copy.known)

    def wipe(self) -> None:
        """Lose the file and begin a new one. No producer may run."""
        self.restore(Copy(self._new_identity(), (), 0, ()))

    def _new_identity(self) -> str:
        self._files += 1
        return f"{self._files:012x}"
