"""The port by which a journal moves to another engine, and the mark that keeps producers off both meanwhile.

The identity, the timelines and the numbers move along. So each cursor names the same entry in the new journal, and a
listener continues there after the last event that it read in the old one.
"""

from collections.abc import Sequence
from typing import Literal, Protocol

import msgspec

from unlost.producer.journal.coded import is_coded_body
from unlost.producer.journal.damage import damaged_of
from unlost.producer.journal.entries import unreadable
from unlost.producer.journal.groups import Group
from unlost.producer.journal.port import Entry, HistoryLost
from unlost.producer.journal.publications import DIGEST_BYTES
from unlost.producer.journal.timelines import Timeline

BATCH_ROWS = 500
BATCH_BYTES = 4 * 1024 * 1024


class Mark(msgspec.Struct, frozen=True):
    """Keeps producers off a journal. ``other``: the address of the other journal, without a password.

    ``moved``: everything is there, and grows there. ``arriving``: it is being copied from there, and is not complete.
    """

    state: Literal["moved", "arriving"]
    other: str


class Moved(HistoryLost):
    """The journal has such a mark."""

    def __init__(self, where: str, mark: Mark) -> None:
        """``where``: the journal itself."""
        if mark.state == "moved":
            what = f"the journal {where} has moved to {mark.other}: start the producer there (JOURNAL)"
        else:
            what = (
                f"the journal {where} is not complete: it is being copied from {mark.other}; "
                "run the same unlost journal migrate again, to its end"
            )
        super().__init__(what)


def refuse_marked(where: str, mark: Mark | None) -> None:
    """Raise ``Moved`` if there is a mark."""
    if mark is not None:
        raise Moved(where, mark)


class Row(msgspec.Struct, frozen=True, gc=False):
    """An entry, or the id of one whose body retention has dropped: then ``body`` is None."""

    number: int
    event_id: str
    digest: bytes
    body: bytes | None
    at: float


def row_of(entry: Entry) -> Row:
    """The row of an entry that was read. A damaged one has no content, so that it stays damaged in any journal."""
    is_whole = not damaged_of([entry]) or (entry.is_whole is None and is_coded_body(entry.body))
    digest = entry.digest if len(entry.digest) == DIGEST_BYTES else bytes(DIGEST_BYTES)
    return Row(entry.number, entry.event_id, digest, entry.body if is_whole else b"", entry.at)


def lost_id(number: int) -> Row:
    """The row of an entry whose body retention has dropped, and whose id the disk has lost."""
    return Row(number, unreadable(number).event_id, bytes(DIGEST_BYTES), None, 0.0)


class History(msgspec.Struct, frozen=True):
    """A journal's contents beside its entries.

    ``before``: the number before the oldest entry that can be read. ``before_ids``: that before the oldest known id.
    """

    identity: str
    before_ids: int
    before: int
    newest: int
    timelines: tuple[Timeline, ...]
    groups: tuple[Group, ...]
    dropped_unread: int
    probed_at: float | None
    mark: Mark | None


class MovableJournal(Protocol):
    """A journal that is copied, or is being made. No producer uses it, or it notices the mark. Calls block."""

    where: str
    """Its address, without a password."""
    keeps_ids: bool
    """Whether it knows ids of entries whose bodies are gone."""
    settle: float
    """For how many seconds it may still grow after it was marked."""

    def history(self) -> History | None:
        """Its present history; None if there is no journal."""
        ...

    def rows(self, after: int, history: History) -> list[Row]:
        """The rows right after this number: at most ``BATCH_ROWS``, until their bodies reach ``BATCH_BYTES``.

        None if retention has taken the first of them. Numbers have no gap: what the disk has lost is a damaged row.
        ``history``: as it was before, at most.
        """
        ...

    def mark(self, mark: Mark) -> None:
        """Store the mark durably. From then on no producer can write."""
        ...

    def begin(self, identity: str, before: int, mark: Mark) -> None:
        """Make it empty, with this mark; the next number is ``before + 1``."""
        ...

    def place(self, rows: Sequence[Row], history: History) -> None:
        """Store these rows right after the newest, all or nothing. ``history``: that of the journal they come from."""
        ...

    def finish(self, history: History) -> None:
        """Take over everything else, and then remove the mark."""
        ...

    def close(self) -> None:
        """Leave it."""
        ...
