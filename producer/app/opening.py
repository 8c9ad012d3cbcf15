"""Opens the journal that the settings name."""

from unlost.ops.kit.command import PathOrUrl
from unlost.producer.journal.port import Journal
from unlost.producer.journal.postgres.adapter import PostgresJournal
from unlost.producer.journal.sqlite.adapter import SqliteJournal


def open_journal(address: PathOrUrl) -> Journal:
    """Open it, to write. Raises ``JournalError``."""
    return PostgresJournal(address.reveal()) if address.path is None else SqliteJournal(address.path)
