"""Opens the journal that the settings name."""

from unlost.listener.core.codec import EventCodec
from unlost.listener.core.errors import Misconfigured
from unlost.ops.kit.command import PathOrUrl
from unlost.producer.journal.address import is_in_jetstream
from unlost.producer.journal.coded import CodedJournal, plain_body, refuse_encoded
from unlost.producer.journal.known import Plain, as_it_is
from unlost.producer.journal.port import Journal
from unlost.producer.journal.sqlite.adapter import SqliteJournal

CODED_SIZE = 1.5
"""At most how many times larger a body is when it is encoded. Base64 makes it a third larger."""


def open_journal(address: PathOrUrl, largest_body: int, codec: EventCodec | None = None) -> Journal:
    """Open it, to write. ``largest_body``: the bytes of the largest event. Raises ``JournalError``."""
    if codec is not None:
        return CodedJournal(_opened(address, int(CODED_SIZE * largest_body), plain_body(codec)), codec)
    journal = _opened(address, largest_body, as_it_is)
    try:
        refuse_encoded(journal)
    except BaseException:
        journal.close()
        raise
    return journal


def _opened(address: PathOrUrl, largest_body: int, plain: Plain) -> Journal:
    if address.path is not None:
        return SqliteJournal(address.path, plain)
    if is_in_jetstream(address):
        return _in_jetstream(address, largest_body, plain)
    from unlost.producer.journal.postgres.adapter import PostgresJournal  # asyncpg is slow to import

    return PostgresJournal(address.reveal(), plain=plain)


def _in_jetstream(address: PathOrUrl, largest_body: int, plain: Plain) -> Journal:
    try:
        from unlost.producer.journal.jetstream.adapter import JetStreamJournal
    except ModuleNotFoundError as error:
        raise Misconfigured(
            f"JOURNAL=nats://… needs the library {error.name}, which is not installed: pip install 'unlost[nats]'"
        ) from None
    return JetStreamJournal(address.reveal(), largest_body=largest_body, plain=plain)
