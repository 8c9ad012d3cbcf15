"""The groups that a journal's file knows. ``unlost journal`` works on a file that a producer may have in use."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from unlost.producer.journal.groups import Group
from unlost.producer.journal.moves import refuse_marked
from unlost.producer.journal.port import JournalError
from unlost.producer.journal.sqlite.marks import mark_in
from unlost.producer.journal.sqlite.statements import FORGET_GROUP, GROUPS, HAS_MARKS, NEWEST, REMEMBER_GROUP


@contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """Open an existing journal, beside its producer. Errors while it is open become ``JournalError`` too.

    Raises ``Moved`` if it has a mark: what is found or done in it would not be true of the journal that is used.
    """
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=rw", uri=True, isolation_level=None)) as file:
            file.execute("pragma synchronous = full")
            if file.execute(HAS_MARKS).fetchone():  # a journal of an earlier version has none
                refuse_marked(str(path), mark_in(file))
            yield file
    except sqlite3.Error as error:
        raise JournalError(f"{path} cannot be used as a journal: {error}") from None


def groups_in(connection: sqlite3.Connection) -> list[Group]:
    """All groups, including forgotten ones."""
    return [Group(name, settled, at, bool(forgotten)) for name, settled, at, forgotten in connection.execute(GROUPS)]


def newest_in(connection: sqlite3.Connection) -> int:
    """The number of the newest entry."""
    number: int | None = connection.execute(NEWEST).fetchone()[0]
    return number or 0


class FileGroups:
    """The groups of one file, for ``unlost journal``. Raises errors of the library."""

    def __init__(self, file: sqlite3.Connection) -> None:
        self._file = file

    def known(self) -> list[Group]:
        """All groups, including forgotten ones."""
        return groups_in(self._file)

    def newest(self) -> int:
        """The number of the newest entry."""
        return newest_in(self._file)

    def forget(self, name: str) -> bool:
        """Mark the group as forgotten. Returns whether it was known."""
        return forget(self._file, name)


def remember(writer: sqlite3.Connection, groups: Sequence[Group]) -> None:
    """Store these reports. Call it within a transaction."""
    writer.executemany(REMEMBER_GROUP, [(one.name, one.settled, one.at) for one in groups])


def forget(writer: sqlite3.Connection, name: str) -> bool:
    """Mark the group as forgotten. Returns whether it was known."""
    return writer.execute(FORGET_GROUP, (name,)).rowcount > 0
