"""Opens the journal that the settings name."""

from unlost.ops.kit.command import PathOrUrl
from unlost.producer.journal.port import Journal
from unlost.producer.journal.sqlite.adapter import SqliteJournal


def open_journal(address: PathOrUrl) -> Journal:
    """Open it, to write. Raises ``JournalError``."""
    if address.path is not None:
        return SqliteJournal(address.path)
    from unlost.producer.journal.postgres.adapter import PostgresJournal  # asyncpg is slow to import

    return PostgresJournal(address.reveal())
