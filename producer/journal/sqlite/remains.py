"""Counts the entries of a journal whose bodies hold a mark, beside its producer."""

import sqlite3
from pathlib import Path

from unlost.producer.journal.port import JournalError
from unlost.producer.journal.sqlite.groups import opened

COUNT = "select count(*) from entries where instr(body, ?) > 0"


def entries_with(path: Path, mark: bytes) -> int:
    """Return how many entries hold this mark. Raises ``JournalError``."""
    if not path.is_file():
        raise JournalError(f"there is no journal {path}")
    with opened(path) as file:
        count: int = file.execute(COUNT, (sqlite3.Binary(mark),)).fetchone()[0]
    return count
