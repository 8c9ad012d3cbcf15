"""The file of a journal: its connections, its write-ahead log, and whether it is still the same file."""

import os
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path

from unlost.producer.journal.port import JournalError
from unlost.producer.journal.sqlite import statements

LARGEST_LOG_PAGES = 16_000
"""At 64 MB a commit checkpoints the log itself, and its callers wait. ``Log.checkpoint`` prevents that."""
SOON = 0.1
"""Seconds. If a checkpoint took less, little is left, and a second one may run while commits wait."""
PATIENCE = 5.0
"""Seconds to wait while another process holds the file."""


def connect(path: Path) -> sqlite3.Connection:
    """Open a connection whose commits survive a power failure."""
    connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=PATIENCE)
    # A damaged byte must not stop reading. The entry is found damaged when its checksum is compared.
    connection.text_factory = lambda text: text.decode("utf-8", "replace")
    connection.execute("pragma journal_mode = wal")
    # In WAL mode only ``full`` syncs the log at each commit: an acknowledged event survives a power failure.
    connection.execute("pragma synchronous = full")
    connection.execute("pragma cache_size = -32000")
    # Otherwise a step's undo data goes to a temporary file. With random ids that is one index page for each row.
    connection.execute("pragma temp_store = memory")
    connection.execute(f"pragma wal_autocheckpoint = {LARGEST_LOG_PAGES}")
    return connection


def make_tables(connection: sqlite3.Connection) -> None:
    """Make the tables of a journal, or add those that an earlier version lacks."""
    connection.executescript(statements.SCHEMA)
    if not connection.execute(statements.HAS_CHECKSUMS).fetchone():
        connection.execute(statements.ADD_CHECKSUMS)


def file_at(path: Path) -> tuple[int, int] | None:
    """Return which file is at this path; None if there is none."""
    try:
        return number_in(path.stat())
    except OSError:
        return None


def file_of(descriptor: int) -> tuple[int, int]:
    """Return which file this is."""
    return number_in(os.fstat(descriptor))


def number_in(found: os.stat_result) -> tuple[int, int]:
    """Return the device, and the number of the file on it."""
    return found.st_dev, found.st_ino


def refuse_foreign(path: Path) -> None:
    """Raise ``JournalError`` if the file has something else than a journal. Nothing is written to it."""
    if not path.exists():
        return
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as file:
            is_empty = file.execute(statements.HAS_NOTHING).fetchone()
            if is_empty or file.execute(statements.IS_JOURNAL).fetchone():
                return
    except sqlite3.Error as error:
        raise JournalError(f"{path} is no journal of a producer, or cannot be opened: {error}") from error
    raise JournalError(f"{path} is no journal of a producer: it has tables of another application")


class Log:
    """The write-ahead log, moved into the database by a connection of its own."""

    def __init__(self, connection: sqlite3.Connection, commits: threading.Lock) -> None:
        """``commits``: held while somebody commits."""
        self._connection = connection
        self._commits = commits
        self._moving = threading.Lock()

    def checkpoint(self) -> None:
        """See ``Journal.checkpoint``. Raises errors of SQLite."""
        with self._moving:
            started = time.monotonic()
            self._move()
            # Little was added meanwhile, so this move holds up commits only briefly. Otherwise it may be much.
            if time.monotonic() - started < SOON:
                with self._commits:
                    self._move()

    def _move(self) -> None:
        self._connection.execute("pragma wal_checkpoint(passive)")

    def close(self) -> None:
        """Close the connection, after a checkpoint that runs."""
        with self._moving:
            self._connection.close()
