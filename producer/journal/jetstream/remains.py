"""Counts the entries of a journal whose bodies hold a mark, beside its producers."""

from unlost.producer.journal.jetstream.groups import opened


def entries_with(url: str, mark: bytes) -> int:
    """Return how many entries hold this mark. Raises ``JournalError``."""
    with opened(url) as journal:
        return journal.holding(mark)
