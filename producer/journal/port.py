"""What a journal promises. SQLite keeps it on one machine; a distributed log may take its place.

A journal has an identity, made when it is made, and timelines, one for each start; an entry's cursor names both: the
cursor of a journal that was wiped, of another one, or of a history that was lost is unknown instead of plausible
(``timelines.py``).
"""

from collections.abc import Iterable, Sequence
from typing import Literal, Protocol, overload

import msgspec

from unlost.producer.journal.groups import KEEP_NOTHING, Keep
from unlost.producer.journal.groups import Group as KnownGroup
from unlost.producer.journal.publications import Group
from unlost.producer.journal.timelines import Timelines

READ_BYTES = 1024 * 1024


class Placed(msgspec.Struct, frozen=True, gc=False):
    """What became of a publication; ``cursor`` is where the event stands (of a duplicate: stood first)."""

    status: Literal["accepted", "redelivered", "duplicate", "conflict"]
    cursor: str


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One event in its place. ``body`` is its JSON text on one line."""

    number: int
    event_id: str
    digest: bytes
    body: bytes
    at: float


class Accepted(Sequence[Placed]):
    """New events in places that follow one another; what became of each is made when it is asked for."""

    def __init__(self, stem: str, numbers: range) -> None:
        """Make it. ``stem``: what stands before the number in their cursors."""
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
    """What became of publications, in their order; the newest number, and the new entries, to be gone through once."""

    placed: Sequence[Placed]
    newest: int
    entries: Iterable[Entry]


class JournalStats(msgspec.Struct, frozen=True):
    """How much can be read; ``size`` counts the bytes of the bodies."""

    entries: int
    size: int
    oldest: int
    newest: int
    dropped_unread: int = 0
    """How many entries retention has taken, ever, that some group had not read."""


class JournalTrouble(Exception):
    """The journal cannot write or read now; nothing of the batch was accepted."""


class Journal(Protocol):
    """One writer, any number of readers; all calls block, and but for one are made from threads."""

    identity: str
    timelines: Timelines

    @property
    def held(self) -> int:
        """Bytes of all bodies, as far as is known; asked from the event loop after each commit."""
        ...

    def append(self, groups: Sequence[Group], at: float) -> Written:
        """Place a batch durably. All or nothing: or ``JournalTrouble``."""
        ...

    def append_at_once(self, groups: Sequence[Group], at: float) -> Written | None:
        """The same from the event loop, for a few new events, durable like all; None where it does not, and then
        nothing was done: there are many, they are large, some are known, or somebody else writes and would have to be
        waited for."""
        ...

    def move(self) -> None:
        """Move what the log holds to its place, beside those who write, and what they add meanwhile while they wait.

        The log then begins anew, over what it held. A file that does not grow is on disk in little more than half the
        time, since its size is not to be written too; and without this a commit moves all now and then.
        """
        ...

    def prove(self, at: float) -> None:
        """Write the time, which changes nothing, durably: or ``JournalTrouble``."""
        ...

    def proven_at(self) -> float | None:
        """The time that was written last."""
        ...

    def read(self, after: int, limit: int, max_bytes: int = READ_BYTES) -> list[Entry]:
        """Entries numbered above ``after``, in order: up to ``limit``, and no more once they reach ``max_bytes``."""
        ...

    def first(self, event_id: str) -> Entry | None:
        """Where this event was placed first, found by index; its body is empty where retention took it."""
        ...

    def bounds(self) -> tuple[int, int]:
        """The number just before the oldest entry that can be read, and the newest number."""
        ...

    def stats(self) -> JournalStats:
        """How much there is."""
        ...

    def retire(self, *, older_than: float, max_bytes: int, chunk: int, keep: Keep = KEEP_NOTHING) -> int:
        """Forget what is older than ``older_than``, drop bodies beyond ``max_bytes``; how many entries changed.

        What is to be kept is kept, whatever its age, and however much it is.
        """
        ...

    def remember(self, reported: Sequence[KnownGroup]) -> list[KnownGroup]:
        """Write what these groups have settled; all groups that are known, or were forgotten."""
        ...

    def unread(self, after: int) -> tuple[int, int]:
        """How many entries are above this number, and the bytes of their bodies: one look at each."""
        ...

    def close(self) -> None:
        """Let go of the files."""
        ...
