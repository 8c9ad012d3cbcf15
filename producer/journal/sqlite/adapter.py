"""The journal in one SQLite file: write-ahead log, full synchronisation, one transaction per batch.

``entries`` holds the events by number. Retention by size empties bodies but keeps ids, so that duplicates stay known
for the whole window. Retention by age deletes rows. ``held`` stores the total bytes of bodies up to the number in
``counted``, and up to which number bodies were dropped. Later entries are counted in memory, and counted anew after a
restart. One process writes; a lock enforces it.

Each step of SQLite releases the interpreter lock, and then waits to get it back. So a few new events are one statement,
which is a transaction by itself, and many events are one statement that takes them all as one text. Nearly all events
are new, so the first attempt assumes it. If one is not, the unique index on ids fails the whole statement, nothing is
written, and each id is looked up. The following commits look up ids, too, until all are new again.
"""

import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path

from unlost.ops.kit.telemetry.files import private_descriptor, private_directory
from unlost.producer.journal.entries import new_entries, some_entries
from unlost.producer.journal.groups import KEEP_NOTHING, Group, RetentionLimits
from unlost.producer.journal.known import FIRST, Judged, Plain, as_it_is, judge
from unlost.producer.journal.moves import refuse_marked
from unlost.producer.journal.port import READ_BYTES, Accepted, Entry, JournalError, JournalStats, Placed, Written
from unlost.producer.journal.publications import Lines, Publications, in_pieces
from unlost.producer.journal.sqlite import groups, retention, rows, statements
from unlost.producer.journal.sqlite.files import PATIENCE, Log, connect, file_at, make_tables, refuse_foreign
from unlost.producer.journal.sqlite.lock import JournalLock
from unlost.producer.journal.sqlite.marks import mark_in
from unlost.producer.journal.sqlite.reading import entries_after, entry_of
from unlost.producer.journal.timelines import Timeline, Timelines, next_timeline, still_needed

# The errors of a broken journal. On a full disk SQLite rolls the transaction back itself, so nothing is half done.
BROKEN = (sqlite3.Error, ValueError, OverflowError)


class SqliteJournal:
    """See ``Journal``."""

    def __init__(self, path: Path, plain: Plain = as_it_is) -> None:
        """``plain``: how bodies are compared."""
        self._plain = plain
        self._path = path
        self._lock = threading.Lock()
        self._reading = threading.Lock()
        self._patience = PATIENCE
        self._counts: tuple[int, int] | None = None
        """The newest number and the total bytes of bodies. None if they must be read from the file."""
        self._met_known = False
        """The last commit contained known events, so the next one probably does, too."""
        try:
            private_directory(path.parent)
            self._held_for_life = JournalLock(path)
            self._open()
        except (sqlite3.Error, OSError) as error:
            raise JournalError(f"the journal {path} cannot be opened: {error}") from error

    def _open(self) -> None:
        try:
            refuse_foreign(self._path)
            # SQLite creates the log and its index with the mode of this file, so it must be private from the start.
            os.close(private_descriptor(self._path, os.O_RDWR))
            self._file = file_at(self._path)
            self._writer = connect(self._path)
            make_tables(self._writer)
            refuse_marked(str(self._path), mark_in(self._writer))
            self._writer.execute("insert or ignore into journal values (1, ?)", (secrets.token_hex(6),))
            self.identity: str = self._writer.execute("select identity from journal").fetchone()[0]
            self._reader = connect(self._path)
            self._log = Log(connect(self._path), self._lock)
            self.timelines = Timelines(self.identity, self._begin_timeline())
        except BaseException:
            self._held_for_life.release()
            raise

    def _begin_timeline(self) -> list[Timeline]:
        """Begin a timeline before this start issues any cursor. Returns all known timelines."""
        bounds = self.bounds()
        with self._transaction():
            known = [Timeline(*row) for row in self._writer.execute(statements.TIMELINES)]
            known = still_needed([*known, next_timeline(known, bounds[1], time.time())], bounds[0])
            self._writer.execute("delete from timelines")
            rows = [(one.ordinal, one.random, one.first) for one in known]
            self._writer.executemany("insert into timelines values (?, ?, ?)", rows)
        return known

    @property
    def held(self) -> int:
        """See ``Journal``."""
        counts = self._counts
        return 0 if counts is None else counts[1]

    def append(self, groups: Sequence[Publications], at: float) -> Written:
        """See ``Journal``."""
        with self._lock, self._translating("written"):
            self._require_same_file()
            self._be_patient(PATIENCE)
            # Nothing is looked up first: nearly all ids are new, and the index of ids finds the others.
            if not self._met_known:
                with suppress(sqlite3.IntegrityError):
                    return self._place_new(groups, at)
            with self._transaction():
                return self._place_some(groups, at)

    def append_at_once(self, groups: Sequence[Publications], at: float) -> Written | None:
        """See ``Journal``."""
        if not rows.are_little(groups) or not self._lock.acquire(blocking=False):
            return None
        try:
            with self._translating("written"):
                self._require_same_file()
                return self._place_now(groups, at)
        finally:
            self._lock.release()

    def _require_same_file(self) -> None:
        """Raise if the open file was replaced or removed, as every further event would vanish with it, or its lock."""
        if file_at(self._path) != self._file:
            raise JournalError(
                f"the journal {self._path} was replaced or removed while the producer runs, so nothing more is "
                "accepted; start the producer again"
            )
        self._held_for_life.require()

    def _place_now(self, groups: Sequence[Publications], at: float) -> Written | None:
        # This is the event loop, which must not wait for another writer.
        self._be_patient(0.0)
        try:
            return self._place_new(groups, at)
        except sqlite3.IntegrityError:
            self._met_known = True  # so that the caller's ``append`` need not try again
            return None
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
            return None

    def _be_patient(self, seconds: float) -> None:
        if self._patience != seconds:
            self._writer.execute(f"pragma busy_timeout = {int(seconds * 1000)}")
            self._patience = seconds

    def follow(self, grew: Callable[[int], None]) -> bool:  # noqa: ARG002  the port's signature
        """See ``Journal``. The lock keeps other producers out."""
        return False

    def probe(self, at: float) -> None:
        """See ``Journal``."""
        with self._writing("written"):
            self._require_same_file()
            self._writer.execute("insert or replace into proof values (1, ?)", (at,))

    def probed_at(self) -> float | None:
        """See ``Journal``."""
        with self._asking() as reader:
            row = reader.execute("select at from proof").fetchone()
        return None if row is None else row[0]

    def checkpoint(self) -> None:
        """See ``Journal``."""
        try:
            self._log.checkpoint()
        except sqlite3.Error as error:
            raise JournalError(f"the log of the journal {self._path} cannot be checkpointed: {error}") from error

    @contextmanager
    def _writing(self, what: str) -> Iterator[None]:
        with self._lock, self._translating(what):
            self._be_patient(PATIENCE)
            with self._transaction():
                yield

    @contextmanager
    def _translating(self, what: str) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            self._counts = None
            if not isinstance(error, BROKEN):
                raise
            raise JournalError(f"the journal {self._path} cannot be {what}: {error}") from error

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        # Immediate, so that waiting for another writer happens here, and not in the middle of the transaction.
        self._writer.execute("begin immediate")
        try:
            yield
            self._writer.execute("commit")
        except BaseException:
            if self._writer.in_transaction:
                self._writer.execute("rollback")
            raise

    def _place_new(self, groups: Sequence[Publications], at: float) -> Written:
        """Store them all as new. ``IntegrityError`` if an id is known or occurs twice; then nothing was written."""
        newest, held = self._counted()
        numbers = range(newest + 1, newest + 1 + sum(map(len, groups)))
        if len(numbers) > statements.FEW:
            with self._transaction():
                size = rows.insert_new(self._writer, numbers.start, groups, at)
        else:
            few = list(chain.from_iterable(groups))
            size = rows.insert_few(self._writer, numbers.start, few, at)
        self._counts = newest + len(numbers), held + size
        return Written(Accepted(self.timelines.stem, numbers), numbers.stop - 1, new_entries(numbers.start, groups, at))

    def _place_some(self, groups: Sequence[Publications], at: float) -> Written:
        """Store a batch in which some ids are known or occur twice."""
        newest, held = self._counted()
        placed: list[Placed] = []
        judged: list[tuple[Lines, Judged]] = []
        for lines in in_pieces(groups):
            found = self._writer.execute(statements.KNOWN, (lines.index.ids,))  # includes the ids of earlier pieces
            known = {event_id: (number, digest) for event_id, number, digest in found}
            judgement = judge(lines, known, newest, self.timelines.cursor, self._body, self._plain)
            if judgement.newest > newest:
                rows.insert_some(self._writer, lines, judgement, at)
            newest, held = judgement.newest, held + judgement.size
            placed += judgement.placed
            judged.append((lines, judgement))
        self._met_known = any(FIRST * len(lines) != judgement.marks for lines, judgement in judged)
        self._counts = newest, held
        return Written(placed, newest, some_entries(judged, at))

    def _body(self, number: int) -> bytes | None:
        row = self._writer.execute("select body from entries where number = ?", (number,)).fetchone()
        return row[0] if row else None

    def _counted(self) -> tuple[int, int]:
        if self._counts is None:
            self._counts = self._writer.execute(statements.COUNTS).fetchone()
        return self._counts

    def read(self, after: int, limit: int, max_bytes: int = READ_BYTES) -> list[Entry]:
        """See ``Journal``."""
        with self._asking() as reader:
            return entries_after(reader, after, limit, max_bytes)

    def first(self, event_id: str) -> Entry | None:
        """See ``Journal``."""
        with self._asking() as reader:
            row = reader.execute(statements.FIRST, (event_id,)).fetchone()
        return entry_of(row) if row else None

    def bounds(self) -> tuple[int, int]:
        """See ``Journal``."""
        with self._asking() as reader:
            oldest, newest = reader.execute(statements.BOUNDS).fetchone()
        return (newest if oldest is None else oldest - 1), newest

    def stats(self) -> JournalStats:
        """See ``Journal``."""
        before_oldest, newest = self.bounds()
        counts = self._counts
        if counts is None:
            with self._asking() as reader:
                counts = reader.execute(statements.COUNTS).fetchone()
        _, size = counts
        with self._asking() as reader:
            (dropped,) = reader.execute("select dropped from unread").fetchone()
        return JournalStats(newest - before_oldest, size, before_oldest + 1, newest, dropped)

    @contextmanager
    def _asking(self) -> Iterator[sqlite3.Connection]:
        try:
            with self._reading:
                yield self._reader
        except sqlite3.Error as error:
            raise JournalError(f"the journal {self._path} cannot be read: {error}") from error

    def retire(
        self, *, older_than: float, max_bytes: int, chunk: int = 5_000, keep: RetentionLimits = KEEP_NOTHING
    ) -> int:
        """See ``Journal``."""
        with self._writing("pruned"):
            newest, held = self._counted()
            self._counts = None
            self._writer.execute("update held set bytes = ?", (held,))
            self._writer.execute("update counted set upto = ?", (newest,))
            return retention.retire(self._writer, older_than, max_bytes, chunk, keep)

    def remember(self, reported: Sequence[Group]) -> list[Group]:
        """See ``Journal``."""
        with self._writing("written"):
            groups.remember(self._writer, reported)
            return groups.groups_in(self._writer)

    def unread(self, after: int) -> tuple[int, int]:
        """See ``Journal``."""
        with self._asking() as reader:
            entries, size = reader.execute(statements.UNREAD, (after,)).fetchone()
        return entries, size

    def close(self) -> None:
        """See ``Journal``."""
        self._writer.close()
        self._reader.close()
        self._log.close()
        self._held_for_life.release()
