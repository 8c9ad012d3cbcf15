"""The entries that an append stored, and entries that cannot be read. Pure."""

from collections.abc import Iterator, Sequence
from itertools import chain

from unlost.producer.journal.known import Judged
from unlost.producer.journal.port import Entry
from unlost.producer.journal.publications import Lines, Publications


def new_entries(first: int, groups: Sequence[Publications], at: float) -> Iterator[Entry]:
    """The entries of publications that were all new."""
    for number, one in enumerate(chain.from_iterable(groups), first):
        yield Entry(number, one.event_id, one.digest, one.body, at)


def some_entries(judged: Sequence[tuple[Lines, Judged]], at: float) -> Iterator[Entry]:
    """The entries of publications that were stored in part."""
    for lines, judgement in judged:
        for number, one in zip(judgement.numbers, lines, strict=True):
            if number:
                yield Entry(number, one.event_id, one.digest, one.body, at)


def unreadable(number: int) -> Entry:
    """An entry that the disk has lost. It has no body, so it does not match its digest."""
    return Entry(number, f"unreadable entry {number}", b"", b"", 0.0)
