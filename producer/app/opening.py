"""Opens the journal that the settings name."""

from unlost.listener.core.codec import EventCodec
from unlost.ops.kit.command import PathOrUrl
from unlost.producer.journal.coded import CodedJournal, plain_body, refuse_encoded
from unlost.producer.journal.known import Plain, as_it_is
from unlost.producer.journal.port import Journal
from unlost.producer.journal.sqlite.adapter import SqliteJournal


def open_journal(address: PathOrUrl, codec: EventCodec | None = None) -> Journal:
    """Open it, to write. Raises ``JournalError``."""
    journal = _opened(address, as_it_is if codec is None else plain_body(codec))
    if codec is not None:
        return CodedJournal(journal, codec)
    try:
        refuse_encoded(journal)
    except BaseException:
        journal.close()
        raise
    return journal


def _opened(address: PathOrUrl, plain: Plain) -> Journal:
    if address.path is not None:
        return SqliteJournal(address.path, plain)
    from unlost.producer.journal.postgres.adapter import PostgresJournal  # asyncpg is slow to import

    return PostgresJournal(address.reveal(), plain=plain)
