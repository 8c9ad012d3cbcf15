"""The port of a journal. SQLite implements it for one producer, PostgreSQL for any number of them.

A journal has an identity, made once, and one timeline for each start of the producer. An entry's cursor names both. The
cursor of a wiped journal, of another journal, or of a lost history is therefore unknown instead of plausible
(``timelines.py``).
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Literal, Protocol, overload

import msgspec

from unlost.producer.journal.groups import KEEP_NOTHING, Group, RetentionLimits
from unlost.producer.journal.publications import Publications
from unlost.producer.journal.timelines import Timelines

READ_BYTES = 1024 * 1024


class Placed(msgspec.Struct, frozen=True, gc=False):
    """The outcome of a publication. ``cursor`` is the event's position; of a duplicate, its first position."""

    status: Literal["accepted", "redelivered", "duplicate", "conflict"]
    cursor: str


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One stored event. ``body`` is its JSON text on one line.

    ``is_whole``: whether its checksum is that of its content and number; None if the journal has none for it.
    """

    number: int
    event_id: str
    digest: bytes
    body: bytes
    at: float
    is_whole: bool | None = None


class Accepted(Sequence[Placed]):
    """The outcomes of new events with consecutive numbers. Each ``Placed`` is made only when it is read."""

    def __init__(self, stem: str, numbers: range) -> None:
        """``stem`` is the part of their cursors before the number."""
        self.stem = stem
        self.numbers = numbers

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, index: int) -> Placed: ...

    @overload
    def __getitem__(self, index: slice) -> "Accepted": ...

    def __getitem__(self, index: int | slice) -> "Placed | Accepted":
        if isinstance(index, slice):
            return Accepted(self.stem, self.numbers[index])
        return Placed("accepted", f"{self.stem}{self.numbers[index]}")


class Written(msgspec.Struct, frozen=True, gc=False):
    """The outcomes of publications, in order, the newest number, and the new entries, to be iterated once."""

    placed: Sequence[Placed]
    newest: int
    entries: Iterable[Entry]


class JournalStats(msgspec.Struct, frozen=True):
    """The entries that can be read. ``size`` is the total bytes of their bodies."""

    entries: int
    size: int
    oldest: int
    newest: int
    dropped_unread: int = 0
    """How many entries retention has ever dropped before some group had read them."""


class JournalError(Exception):
    """The journal cannot be read or written now. Nothing of the batch was accepted, as far as the message does not say
    that this is in doubt. A publisher that publishes it again, with the same ids, is right in any case."""


class HistoryLost(JournalError):
    """The journal is another one than was read before. The producer must start anew, and its clients with it."""


class Journal(Protocol):
    """Any number of readers. Calls block and come from threads, except ``held``, ``append_at_once`` and ``follow``."""

    identity: str
    timelines: Timelines

    @property
    def held(self) -> int:
        """Total bytes of all bodies, as far as known. The event loop reads it after each commit."""
        ...

    def append(self, groups: Sequence[Publications], at: float) -> Written:
        """Store a batch durably, all or nothing. Raises ``JournalError`` otherwise."""
        ...

    def append_at_once(self, groups: Sequence[Publications], at: float) -> Written | None:
        """Like ``append``, but called on the event loop, for a few new events. Just as durable.

        Returns None if it did nothing: there are too many events, they are too large, some ids are known already, or
        another writer holds the file and the loop would have to wait.
        """
        ...

    def follow(self, grew: Callable[[int], None]) -> bool:
        """Call ``grew``, from any thread, with the newest number when another producer has written.

        Returns whether there can be other producers at all. Calls may be lost, so ``bounds`` must be asked, too.
        """
        ...

    def checkpoint(self) -> None:
        """Move the write-ahead log into the database file. Writers continue, and wait only for the last part.

        The log then starts again and overwrites its old content. Syncing a file that does not grow takes little more
        than half the time, because its size is not written. Without this call, some commit would have to move
        everything.
        """
        ...

    def probe(self, at: float) -> None:
        """Write the time durably, to check that the journal can be written. Raises ``JournalError`` if it cannot."""
        ...

    def probed_at(self) -> float | None:
        """The time that was written last, if any."""
        ...

    def read(self, after: int, limit: int, max_bytes: int = READ_BYTES) -> list[Entry]:
        """Entries above ``after``, in order: at most ``limit``, and no more once their bodies reach ``max_bytes``.

        An entry that cannot be read has no body, and does not match its digest.
        """
        ...

    def first(self, event_id: str) -> Entry | None:
        """The first entry with this id, found by index. Its body is empty if retention has dropped it."""
        ...

    def bounds(self) -> tuple[int, int]:
        """The number just before the oldest entry that can be read, and the newest number."""
        ...

    def stats(self) -> JournalStats:
        """Counts and sizes of what can be read."""
        ...

    def retire(self, *, older_than: float, max_bytes: int, chunk: int, keep: RetentionLimits = KEEP_NOTHING) -> int:
        """Delete rows older than ``older_than`` and drop bodies beyond ``max_bytes``. Returns how many entries changed.

        ``keep`` takes precedence over both limits: what it protects stays, at any age and size.
        """
        ...

    def remember(self, reported: Sequence[Group]) -> list[Group]:
        """Store what these groups have settled. Returns all groups, including forgotten ones."""
        ...

    def unread(self, after: int) -> tuple[int, int]:
        """How many entries are above this number, and the bytes of their bodies. It reads each of those entries."""
        ...

    def close(self) -> None:
        """Close the files."""
        ...
