"""A journal in a file that is moved, or made of another. See ``MovableJournal``. No producer may use it meanwhile."""

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from unlost.ops.kit.telemetry.files import private_descriptor, private_directory
from unlost.producer.journal.checksums import checksum_of
from unlost.producer.journal.moves import BATCH_BYTES, BATCH_ROWS, History, Mark, Row, lost_id, row_of
from unlost.producer.journal.port import JournalError
from unlost.producer.journal.publications import DIGEST_BYTES
from unlost.producer.journal.sqlite import statements
from unlost.producer.journal.sqlite.files import connect, make_tables, refuse_foreign
from unlost.producer.journal.sqlite.groups import groups_in
from unlost.producer.journal.sqlite.lock import JournalLock
from unlost.producer.journal.sqlite.marks import mark_in, put_mark
from unlost.producer.journal.sqlite.reading import entries_after
from unlost.producer.journal.timelines import Timeline

BROKEN = (sqlite3.Error, OSError, ValueError, OverflowError)


class MovableFile:
    """See the module."""

    keeps_ids = True
    settle = 0.0

    def __init__(self, path: Path) -> None:
        """Raises ``JournalError`` if a producer uses it, or if it is another application's file."""
        self.where = str(path.resolve())
        self._path = path
        self._open: sqlite3.Connection | None = None
        refuse_foreign(path)
        try:
            private_directory(path.parent)
            self._lock = JournalLock(path)
        except OSError as error:
            raise JournalError(f"the journal {path} cannot be opened: {error}") from error

    def history(self) -> History | None:
        """See ``MovableJournal``."""
        if not self._path.exists():
            return None
        with self._using("read") as file:
            if not file.execute(statements.IS_JOURNAL).fetchone():
                return None
            make_tables(file)
            identity = file.execute("select identity from journal").fetchone()
            return None if identity is None else _history_in(file, identity[0])

    def rows(self, after: int, history: History) -> list[Row]:
        """See ``MovableJournal``."""
        with self._using("read") as file:
            if after >= history.before:
                return [row_of(one) for one in entries_after(file, after, BATCH_ROWS, BATCH_BYTES)]
            found = {row[0]: row for row in file.execute(statements.IDS, (after, BATCH_ROWS))}
            return [_id_of(number, found.get(number)) for number in range(after + 1, _last(after, found, history) + 1)]

    def mark(self, mark: Mark) -> None:
        """See ``MovableJournal``."""
        with self._writing() as file:
            put_mark(file, mark)

    def begin(self, identity: str, before: int, mark: Mark) -> None:
        """See ``MovableJournal``."""
        with self._using("made") as file:
            make_tables(file)
        with self._writing() as file:
            for statement in statements.CLEAR:
                file.execute(statement)
            file.execute("insert into journal values (1, ?)", (identity,))
            file.execute("update counted set upto = ?", (before,))
            put_mark(file, mark)

    def place(self, rows: Sequence[Row], history: History) -> None:  # noqa: ARG002  the port's signature
        """See ``MovableJournal``."""
        with self._writing() as file:
            _, newest = file.execute(statements.BOUNDS).fetchone()
            if rows[0].number != newest + 1:
                raise JournalError(
                    f"the journal {self._path} ends at number {newest:,}: another migration writes to it"
                )
            file.executemany(statements.COPY, map(_values_of, rows))
            size = sum(len(row.body) for row in rows if row.body is not None)
            file.execute(statements.GROW, (size, max([row.number for row in rows if row.body is None], default=0)))
            file.execute("update counted set upto = ?", (rows[-1].number,))

    def finish(self, history: History) -> None:
        """See ``MovableJournal``."""
        with self._writing() as file:
            file.execute("delete from timelines")
            timelines = [(one.ordinal, one.random, one.first) for one in history.timelines]
            file.executemany("insert into timelines values (?, ?, ?)", timelines)
            file.execute("delete from groups")
            groups = [(one.name, one.settled, one.at, one.forgotten) for one in history.groups]
            file.executemany(statements.COPY_GROUP, groups)
            file.execute("update unread set dropped = ?", (history.dropped_unread,))
            if history.probed_at is not None:
                file.execute("insert or replace into proof values (1, ?)", (history.probed_at,))
            file.execute("delete from moving")

    def close(self) -> None:
        """Close the file, and free it for producers."""
        if self._open is not None:
            self._open.close()
        self._lock.release()

    @contextmanager
    def _using(self, what: str) -> Iterator[sqlite3.Connection]:
        try:
            if self._open is None:
                os.close(private_descriptor(self._path, os.O_RDWR))
                self._open = connect(self._path)
            yield self._open
        except BROKEN as error:
            raise JournalError(f"the journal {self._path} cannot be {what}: {error}") from error

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        self._lock.require()
        with self._using("written") as file:
            file.execute("begin immediate")
            try:
                yield file
                file.execute("commit")
            except BaseException:
                if file.in_transaction:
                    file.execute("rollback")
                raise


def _history_in(file: sqlite3.Connection, identity: str) -> History:
    oldest, newest = file.execute(statements.BOUNDS).fetchone()
    oldest_id = file.execute(statements.BEFORE_IDS).fetchone()[0]
    probed = file.execute("select at from proof").fetchone()
    return History(
        identity=identity,
        before_ids=newest if oldest_id is None else oldest_id - 1,
        before=newest if oldest is None else oldest - 1,
        newest=newest,
        timelines=tuple(Timeline(*row) for row in file.execute(statements.TIMELINES)),
        groups=tuple(groups_in(file)),
        dropped_unread=file.execute("select dropped from unread").fetchone()[0],
        probed_at=None if probed is None else probed[0],
        mark=mark_in(file),
    )


def _last(after: int, found: dict[int, tuple[int, str, bytes, float]], history: History) -> int:
    """Up to which number ids are taken at once. A row that cannot be read is no end."""
    return max(found) if len(found) == BATCH_ROWS else min(history.before, after + BATCH_ROWS)


def _id_of(number: int, row: tuple[int, str, bytes, float] | None) -> Row:
    if row is None or len(row[2]) != DIGEST_BYTES:
        return lost_id(number)
    _, event_id, digest, at = row
    return Row(number, event_id, digest, None, at)


def _values_of(row: Row) -> tuple[object, ...]:
    # Without content it is damaged, or its body was dropped: a checksum would say that this is what was accepted.
    checksum = checksum_of(row.number, row.event_id, row.digest, row.body) if row.body else None
    return row.number, row.event_id, row.digest, row.body, row.at, checksum
