"""The journal in one SQLite file: write-ahead log, full synchronisation, one transaction a batch.

``entries`` holds an event's place; retention by size empties bodies and keeps ids, so that the window in which
a duplicate is known does not shrink; retention by age deletes rows. ``held`` knows how many bytes of bodies there are
in the entries up to a number, and up to which one they were dropped; what came after is counted in memory, and
anew after a restart. One process writes.

A step of SQLite's leaves the interpreter to other threads, and then waits for its turn. So a few new events are one
statement, which is a transaction by itself.
"""

import secrets
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, repeat
from pathlib import Path
from typing import Literal

import msgspec

from producer.journal import retention, statements
from producer.journal.content import same_value
from producer.journal.port import READ_BYTES, Entry, JournalStats, JournalTrouble, Placed, Publication, cursor_of

LARGEST_LOG_PAGES = 16_000
"""At 64 MB the log is moved by a commit, whoever waits for it; ``move`` is there so that it does not come to that."""
SOON = 0.1
"""Seconds: what is moved in less leaves little to move while commits wait for it."""
PATIENCE = 5.0
"""Seconds for which another process may hold the file."""
# A transaction rolled back by SQLite itself (full disk) leaves nothing half done; other errors reach here as these.
BROKEN = (sqlite3.Error, ValueError, OverflowError)


class SqliteJournal:
    """See ``Journal``."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._reading = threading.Lock()
        self._moving = threading.Lock()
        self._patience = PATIENCE
        self._counts: tuple[int, int] | None = None
        """The newest number, and the bytes of all bodies; None where they are to be read."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = self._connect()
            self._writer.executescript(statements.SCHEMA)
            self._writer.execute("insert or ignore into journal values (1, ?)", (secrets.token_hex(6),))
            self.identity: str = self._writer.execute("select identity from journal").fetchone()[0]
            self._reader = self._connect()
            self._mover = self._connect()
        except (sqlite3.Error, OSError) as error:
            raise JournalTrouble(f"the journal {path} cannot be opened: {error}") from error

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, check_same_thread=False, isolation_level=None, timeout=PATIENCE)
        connection.execute("pragma journal_mode = wal")
        connection.execute("pragma synchronous = full")
        connection.execute("pragma cache_size = -32000")
        connection.execute(f"pragma wal_autocheckpoint = {LARGEST_LOG_PAGES}")
        return connection

    def append(self, publications: Sequence[Publication], at: float) -> tuple[list[Placed], list[Entry]]:
        """See ``Journal``."""
        if len(publications) <= statements.FEW and (placed := self._append_few(publications, at)):
            return placed
        with self._transaction("written"):
            return self._place(publications, at)

    def append_at_once(self, publications: Sequence[Publication], at: float) -> tuple[list[Placed], list[Entry]] | None:
        """See ``Journal``."""
        if len(publications) > statements.FEW or not self._lock.acquire(blocking=False):
            return None
        try:
            with self._telling("written"):
                return self._place_now(publications, at)
        finally:
            self._lock.release()

    def _place_now(self, publications: Sequence[Publication], at: float) -> tuple[list[Placed], list[Entry]] | None:
        self._be_patient(0.0)
        try:
            return self._place_new(publications, at)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
            self._counts = None
            return None

    def _append_few(self, publications: Sequence[Publication], at: float) -> tuple[list[Placed], list[Entry]] | None:
        with self._writing("written"):
            return self._place_new(publications, at)

    def _place_new(self, publications: Sequence[Publication], at: float) -> tuple[list[Placed], list[Entry]] | None:
        """In one statement that commits itself; None where some are known, or come twice."""
        ids = [one.event_id for one in publications]
        if not ids or len(set(ids)) < len(ids) or self._known(ids):
            return None
        return self._place_all(publications, ids, at)

    def _be_patient(self, seconds: float) -> None:
        if self._patience != seconds:
            self._writer.execute(f"pragma busy_timeout = {int(seconds * 1000)}")
            self._patience = seconds

    def prove(self) -> None:
        """See ``Journal``."""
        with self._transaction("written"):
            self._writer.execute("insert or replace into proof values (1, ?)", (time.time(),))

    def move(self) -> None:
        """See ``Journal``."""
        try:
            with self._moving:
                started = time.monotonic()
                self._move_log()
                if time.monotonic() - started < SOON:
                    with self._lock:
                        self._move_log()
        except sqlite3.Error as error:
            raise JournalTrouble(f"the journal {self._path} cannot be moved out of its log: {error}") from error

    def _move_log(self) -> None:
        self._mover.execute("pragma wal_checkpoint(passive)")

    @contextmanager
    def _writing(self, what: str) -> Iterator[None]:
        with self._lock, self._telling(what):
            self._be_patient(PATIENCE)
            yield

    @contextmanager
    def _telling(self, what: str) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            self._counts = None
            if not isinstance(error, BROKEN):
                raise
            raise JournalTrouble(f"the journal {self._path} cannot be {what}: {error}") from error

    @contextmanager
    def _transaction(self, what: str) -> Iterator[None]:
        with self._writing(what):
            self._writer.execute("begin immediate")
            try:
                yield
                self._writer.execute("commit")
            except BaseException:
                if self._writer.in_transaction:
                    self._writer.execute("rollback")
                raise

    def _place(self, publications: Sequence[Publication], at: float) -> tuple[list[Placed], list[Entry]]:
        ids = [one.event_id for one in publications]
        known = self._known(ids)
        if known or len(set(ids)) < len(ids):
            return self._place_some(publications, known, at)
        return self._place_all(publications, ids, at)

    def _known(self, ids: Sequence[str]) -> dict[str, tuple[int, bytes]]:
        if len(ids) == 1:
            found = self._writer.execute(statements.KNOWN_ONE, (ids[0],))
        else:
            found = self._writer.execute(statements.KNOWN, (msgspec.json.encode(ids).decode(),))
        return {event_id: (number, digest) for event_id, number, digest in found}

    def _place_all(
        self, publications: Sequence[Publication], ids: Sequence[str], at: float
    ) -> tuple[list[Placed], list[Entry]]:
        """New ones, each once."""
        newest, _ = self._counted()
        numbers = range(newest + 1, newest + 1 + len(ids))
        digests = [one.digest for one in publications]
        bodies = [one.body for one in publications]
        placed = [Placed("accepted", cursor_of(self.identity, number)) for number in numbers]
        if ids:
            rows = zip(numbers, ids, map(bytearray, digests), map(bytearray, bodies), repeat(at), repeat(1))
            self._insert(list(chain.from_iterable(rows)), sum(map(len, bodies)))
        return placed, list(map(Entry, numbers, ids, digests, bodies, repeat(at)))

    def _place_some(
        self, publications: Sequence[Publication], known: dict[str, tuple[int, bytes]], at: float
    ) -> tuple[list[Placed], list[Entry]]:
        """Of these some are known, or come twice."""
        fresh: dict[int, bytes] = {}
        number, _ = self._counted()
        placed: list[Placed] = []
        entries: list[Entry] = []
        values: list[object] = []
        for one in publications:
            first = known.get(one.event_id)
            status = self._outcome(first, one, fresh) if first else "accepted"
            if first and status in ("duplicate", "conflict"):
                placed.append(Placed(status, cursor_of(self.identity, first[0])))
                continue
            number += 1
            placed.append(Placed(status, cursor_of(self.identity, number)))
            entries.append(Entry(number, one.event_id, one.digest, one.body, at))
            values += (number, one.event_id, bytearray(one.digest), bytearray(one.body), at, int(first is None))
            if first is None:
                known[one.event_id] = (number, one.digest)
                fresh[number] = one.body
        if entries:
            self._insert(values, sum(len(entry.body) for entry in entries))
        return placed, entries

    def _insert(self, values: Sequence[object], size: int) -> None:
        """Values are ``bytearray``, ``str``, ``int`` and ``float``: for each ``bytes`` and ``bool`` Python's module
        seeks an adapter anew, which costs a quarter of the row.
        """
        newest, held = self._counted()
        self._counts = (newest + len(values) // statements.COLUMNS, held + size)
        if statement := statements.INSERTS.get(len(values) // statements.COLUMNS):
            self._writer.execute(statement, values)
            return
        first = 0
        for rows, statement in statements.INSERTS.items():
            width = rows * statements.COLUMNS
            while len(values) - first >= width:
                self._writer.execute(statement, values[first : first + width])
                first += width

    def _outcome(
        self, first: tuple[int, bytes], one: Publication, fresh: dict[int, bytes]
    ) -> Literal["redelivered", "duplicate", "conflict"]:
        number, digest = first
        if digest != one.digest:
            body = fresh.get(number) or self._body(number)
            if body is None or not same_value(body, one.body):
                return "conflict"
        return "redelivered" if one.redeliver else "duplicate"

    def _body(self, number: int) -> bytes | None:
        row = self._writer.execute("select body from entries where number = ?", (number,)).fetchone()
        return row[0] if row else None

    def _counted(self) -> tuple[int, int]:
        if self._counts is None:
            self._counts = self._writer.execute(statements.COUNTS).fetchone()
        return self._counts

    def read(self, after: int, limit: int, max_bytes: int = READ_BYTES) -> list[Entry]:
        """See ``Journal``."""
        entries: list[Entry] = []
        size = 0
        with self._asking() as reader:
            for row in reader.execute(statements.READ, (after, limit)):
                entries.append(Entry(*row))
                size += len(entries[-1].body)
                if size >= max_bytes:
                    break
        return entries

    def first(self, event_id: str) -> Entry | None:
        """See ``Journal``."""
        with self._asking() as reader:
            row = reader.execute(statements.FIRST, (event_id,)).fetchone()
        return Entry(*row) if row else None

    def bounds(self) -> tuple[int, int]:
        """See ``Journal``."""
        with self._asking() as reader:
            oldest, newest = reader.execute(statements.BOUNDS).fetchone()
        newest = newest or 0
        return (newest if oldest is None else oldest - 1), newest

    def stats(self) -> JournalStats:
        """See ``Journal``."""
        before_oldest, newest = self.bounds()
        counts = self._counts
        if counts is None:
            with self._asking() as reader:
                counts = reader.execute(statements.COUNTS).fetchone()
        _, size = counts
        return JournalStats(newest - before_oldest, size, before_oldest + 1, newest)

    @contextmanager
    def _asking(self) -> Iterator[sqlite3.Connection]:
        try:
            with self._reading:
                yield self._reader
        except sqlite3.Error as error:
            raise JournalTrouble(f"the journal {self._path} cannot be read: {error}") from error

    def retire(self, *, older_than: float, max_bytes: int, chunk: int = 5_000) -> int:
        """See ``Journal``. Numbers rise with time, so the oldest come first."""
        with self._transaction("pruned"):
            newest, held = self._counted()
            self._counts = None
            self._writer.execute("update held set bytes = ?", (held,))
            self._writer.execute("update counted set upto = ?", (newest,))
            return retention.forget(self._writer, older_than, chunk) + retention.empty(self._writer, max_bytes, chunk)

    def close(self) -> None:
        """See ``Journal``."""
        self._writer.close()
        self._reader.close()
        with self._moving:
            self._mover.close()
