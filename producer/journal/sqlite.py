"""The journal in one SQLite file: write-ahead log, full synchronisation, one transaction a batch.

``entries`` holds an event's place; retention by size empties bodies and keeps ids, so that the window in which
a duplicate is known does not shrink; retention by age deletes rows.
"""

import json
import secrets
import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path

from producer.journal.port import Entry, JournalStats, JournalTrouble, Placed, Publication, cursor_of

SCHEMA = """
create table if not exists journal (one integer primary key check (one = 1), identity text not null);
create table if not exists entries (
    number integer primary key autoincrement,
    event_id text not null,
    digest blob not null,
    body blob,
    at real not null,
    first integer not null);
create unique index if not exists entries_first on entries (event_id) where first;
"""
KNOWN = "select event_id, number, digest from entries where first and event_id in (select value from json_each(?))"
INSERT = "insert into entries (number, event_id, digest, body, at, first) values (?, ?, ?, ?, ?, ?)"


class SqliteJournal:
    """See ``Journal``."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._reading = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = self._connect()
            self._writer.executescript(SCHEMA)
            self._writer.execute("insert or ignore into journal values (1, ?)", (secrets.token_hex(6),))
            self.identity: str = self._writer.execute("select identity from journal").fetchone()[0]
            self._reader = self._connect()
        except sqlite3.Error as error:
            raise JournalTrouble(f"the journal {path} cannot be opened: {error}") from error
        except OSError as error:
            raise JournalTrouble(f"the journal {path} cannot be opened: {error}") from error

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, check_same_thread=False, isolation_level=None, timeout=5)
        connection.execute("pragma journal_mode = wal")
        connection.execute("pragma synchronous = full")
        connection.execute("pragma cache_size = -32000")
        return connection

    def append(self, publications: Sequence[Publication], at: float) -> tuple[list[Placed], list[Entry]]:
        """See ``Journal``."""
        with self._lock:
            try:
                self._writer.execute("begin immediate")
                try:
                    result = self._place(publications, at)
                    self._writer.execute("commit")
                except BaseException:
                    if self._writer.in_transaction:
                        self._writer.execute("rollback")
                    raise
            except sqlite3.Error as error:
                raise JournalTrouble(f"the journal {self._path} cannot be written: {error}") from error
        return result

    def _place(self, publications: Sequence[Publication], at: float) -> tuple[list[Placed], list[Entry]]:
        ids = json.dumps([one.event_id for one in publications])
        known = {event_id: (number, digest) for event_id, number, digest in self._writer.execute(KNOWN, (ids,))}
        number = self._newest()
        placed, entries, rows = [], [], []
        for one in publications:
            first = known.get(one.event_id)
            if first and not (one.redeliver and self._same(first, one)):
                status = "duplicate" if self._same(first, one) else "conflict"
                placed.append(Placed(status, cursor_of(self.identity, first[0])))  # type: ignore[arg-type]
                continue
            number += 1
            placed.append(Placed("redelivered" if first else "accepted", cursor_of(self.identity, number)))
            entries.append(Entry(number, one.event_id, one.digest, one.body, at))
            rows.append((number, one.event_id, one.digest, one.body, at, first is None))
            if first is None:
                known[one.event_id] = (number, one.digest)
        self._writer.executemany(INSERT, rows)
        return placed, entries

    def _same(self, first: tuple[int, bytes], publication: Publication) -> bool:
        """Whether contents are equal as JSON values; equal digests are proof enough."""
        number, digest = first
        if digest == publication.digest:
            return True
        row = self._writer.execute("select body from entries where number = ?", (number,)).fetchone()
        return bool(row and row[0] and json.loads(row[0]) == json.loads(publication.body))

    def _newest(self) -> int:
        row = self._writer.execute("select seq from sqlite_sequence where name = 'entries'").fetchone()
        return int(row[0]) if row else 0

    def read(self, after: int, limit: int) -> list[Entry]:
        """See ``Journal``."""
        query = "select number, event_id, digest, body, at from entries where number > ? and body is not null limit ?"
        return [Entry(*row) for row in self._ask(query, after, limit)]

    def bounds(self) -> tuple[int, int]:
        """See ``Journal``."""
        oldest = self._ask("select min(number) from entries where body is not null")[0][0]
        row = self._ask("select seq from sqlite_sequence where name = 'entries'")
        newest = int(row[0][0]) if row else 0
        return (oldest - 1 if oldest is not None else newest), newest

    def stats(self) -> JournalStats:
        """See ``Journal``."""
        before_oldest, newest = self.bounds()
        pages, size = self._ask("pragma page_count")[0][0], self._ask("pragma page_size")[0][0]
        return JournalStats(newest - before_oldest, pages * size, before_oldest + 1, newest)

    def _ask(self, query: str, *arguments: object) -> list[tuple[object, ...]] | list[tuple]:  # type: ignore[type-arg]
        try:
            with self._reading:
                return self._reader.execute(query, arguments).fetchall()
        except sqlite3.Error as error:
            raise JournalTrouble(f"the journal {self._path} cannot be read: {error}") from error

    def retire(self, *, older_than: float, max_bytes: int, chunk: int = 5_000) -> int:
        """See ``Journal``. Numbers rise with time, so the oldest come first."""
        with self._lock:
            try:
                changed = self._writer.execute(
                    "delete from entries where number in (select number from entries order by number limit ?) and at < ?",
                    (chunk, older_than),
                ).rowcount
                used = self._used_bytes()
                if used > max_bytes:
                    changed += self._writer.execute(
                        "update entries set body = null where number in "
                        "(select number from entries where body is not null order by number limit ?)",
                        (chunk,),
                    ).rowcount
                return changed
            except sqlite3.Error as error:
                raise JournalTrouble(f"the journal {self._path} cannot be pruned: {error}") from error

    def _used_bytes(self) -> int:
        pages, free, size = (
            self._writer.execute(f"pragma {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * size)

    def close(self) -> None:
        """See ``Journal``."""
        self._writer.close()
        self._reader.close()
