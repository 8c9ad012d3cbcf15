"""The journal in PostgreSQL, for any number of producers behind one address. See ``Journal``.

Numbers have no hole and become visible in order, because each transaction that gives some holds the row ``head`` until
its commit. A session of the writer is a timeline: every new connection may lead to a server that lost commits, such as
a promoted standby, so it begins one. A producer learns other producers' timelines before it names an entry of theirs.

An append whose connection is lost may have been committed or not. The publisher is refused, and publishes again with
the same ids: they are then duplicates, or new.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeVar

import asyncpg

from unlost.ops.kit.telemetry.mask import masked
from unlost.producer.journal.entries import new_entries, some_entries
from unlost.producer.journal.groups import KEEP_NOTHING, Group, RetentionLimits
from unlost.producer.journal.known import FIRST, Judged, Plain, as_it_is, judge
from unlost.producer.journal.loop_thread import LoopThread
from unlost.producer.journal.port import (
    READ_BYTES,
    Accepted,
    Entry,
    JournalError,
    JournalStats,
    Placed,
    Written,
)
from unlost.producer.journal.postgres import statements
from unlost.producer.journal.postgres.history import PostgresHistory
from unlost.producer.journal.postgres.retention import retire
from unlost.producer.journal.postgres.rows import insert_some, looked_up, without_holes
from unlost.producer.journal.postgres.session import LIBRARY_ERRORS, Follower, PostgresSession, Use, in_doubt
from unlost.producer.journal.publications import Lines, Publications, in_pieces
from unlost.producer.journal.starting import START_ATTEMPTS, START_DELAY, open_patiently

T = TypeVar("T")
WRITTEN = "written"


class PostgresJournal:
    """See ``Journal``."""

    def __init__(
        self, url: str, *, attempts: int = START_ATTEMPTS, delay: float = START_DELAY, plain: Plain = as_it_is
    ) -> None:
        """``plain``: how bodies are compared."""
        self._plain = plain
        self._where = masked(url)
        self._loop = LoopThread("journal in PostgreSQL")
        self._history = PostgresHistory(self._where)
        self._writer = PostgresSession(url, self._history.begin_timeline)
        self._reader = PostgresSession(url)
        self._follower = Follower(url)
        self._met_known = False
        """The last commit contained known events, so the next one probably does, too."""
        try:
            open_patiently(lambda: self._do(self._writer, "opened", self._history.head), attempts, delay)
        except BaseException:
            self.close()
            raise
        self.identity, self.timelines = self._history.identity, self._history.timelines

    @property
    def held(self) -> int:
        """See ``Journal``. As of this producer's last call."""
        return self._history.held

    def append(self, groups: Sequence[Publications], at: float) -> Written:
        """See ``Journal``."""
        return self._do(self._writer, WRITTEN, lambda connection: self._append(connection, groups, at))

    def append_at_once(self, groups: Sequence[Publications], at: float) -> Written | None:  # noqa: ARG002
        """See ``Journal``. The event loop would wait for the network, so it never does anything."""
        return None

    async def _append(self, connection: asyncpg.Connection, groups: Sequence[Publications], at: float) -> Written:
        pieces = list(in_pieces(groups))
        if not pieces:
            return Written((), (await self._history.current(connection))["newest"], ())
        if not self._met_known:
            with suppress(asyncpg.UniqueViolationError):
                return await self._place_new(connection, groups, pieces, at)
        async with connection.transaction():
            written, held = await self._place_some(connection, pieces, at)
        self._history.note(written.newest, held)
        return written

    async def _place_new(
        self, connection: asyncpg.Connection, groups: Sequence[Publications], pieces: Sequence[Lines], at: float
    ) -> Written:
        """Store them all as new. ``UniqueViolationError``, and nothing written, if an id is known or occurs twice."""
        while (head := await self._insert_new(connection, pieces, at)) is None:
            await self._history.current(connection)
        newest: int = head["newest"]
        self._history.note(
            newest, head["bytes"]
        )  # not before the commit: what is noted is expected of every later reply
        first = newest - sum(map(len, pieces)) + 1
        stem = self.timelines.cursor(first).removesuffix(str(first))
        return Written(Accepted(stem, range(first, newest + 1)), newest, new_entries(first, groups, at))

    async def _insert_new(
        self, connection: asyncpg.Connection, pieces: Sequence[Lines], at: float
    ) -> asyncpg.Record | None:
        """Insert them, in one transaction, and return the head; None if the current timeline is another."""
        if len(pieces) == 1:
            return await self._insert_piece(connection, pieces[0], at)
        head = None
        async with connection.transaction():
            for piece in pieces:
                if (head := await self._insert_piece(connection, piece, at)) is None:
                    return None  # of the first piece: after that, the head is held
        return head

    async def _insert_piece(self, connection: asyncpg.Connection, piece: Lines, at: float) -> asyncpg.Record | None:
        some = list(piece)
        return await connection.fetchrow(
            statements.APPEND, len(some), piece.size, self._history.timeline, self._history.newest, at,
            [one.event_id for one in some], [one.digest for one in some], [one.body for one in some],
        )  # fmt: skip

    async def _place_some(
        self, connection: asyncpg.Connection, pieces: Sequence[Lines], at: float
    ) -> tuple[Written, int]:
        """Store a batch in which some ids are known or occur twice, in the caller's transaction. Also returns the
        total bytes of all bodies."""
        head = await self._history.head(connection, statements.LOCK)
        await self._history.learn(connection, head["timeline"])
        newest = before = head["newest"]
        placed: list[Placed] = []
        judged: list[tuple[Lines, Judged]] = []
        for lines in pieces:
            known, body_of = await looked_up(connection, lines)
            judgement = judge(lines, known, newest, self.timelines.cursor, body_of, self._plain)
            await insert_some(connection, lines, judgement, at)
            newest = judgement.newest
            placed += judgement.placed
            judged.append((lines, judgement))
        size = sum(judgement.size for _, judgement in judged)
        row = await self._history.head(
            connection, statements.GROW, newest - before, size, self._history.timeline, before
        )
        await connection.execute(statements.NOTIFY, str(newest))
        self._met_known = any(FIRST * len(lines) != judgement.marks for lines, judgement in judged)
        return Written(placed, newest, some_entries(judged, at)), row["bytes"]

    def probe(self, at: float) -> None:
        """See ``Journal``."""
        self._do(self._writer, WRITTEN, lambda connection: connection.execute(statements.PROBE, at))

    def probed_at(self) -> float | None:
        """See ``Journal``."""
        head = self._do(self._reader, "read", self._history.head)
        probed_at: float | None = head["probed_at"]
        return probed_at

    def follow(self, grew: Callable[[int], None]) -> bool:
        """See ``Journal``."""

        def announced(pid: int, newest: int) -> None:
            self._history.newest = max(self._history.newest, newest)  # clients are sent up to there, as after a read
            if pid != self._writer.pid:
                grew(newest)

        self._loop.start(self._follower.run(announced))
        return True

    def checkpoint(self) -> None:
        """See ``Journal``. The server does that by itself."""

    def read(self, after: int, limit: int, max_bytes: int = READ_BYTES) -> list[Entry]:
        """See ``Journal``."""
        return self._do(self._reader, "read", lambda connection: self._read(connection, after, limit, max_bytes))

    async def _read(self, connection: asyncpg.Connection, after: int, limit: int, max_bytes: int) -> list[Entry]:
        seen = self._history.newest  # before the call: a commit may end while it is read
        rows = await connection.fetch(statements.READ, after, limit, max_bytes)
        if not rows or rows[0]["newest"] < seen:
            raise self._history.lost
        await self._history.learn(connection, rows[0]["timeline"])
        found = [Entry(*row[3:]) for row in rows if row["number"] is not None]
        size = sum(len(one.body) for one in found)
        is_all = len(found) < limit and size < max_bytes
        last = min(rows[0]["newest"], rows[0]["before"] + limit) if is_all else found[-1].number
        return without_holes(found, rows[0]["before"] + 1, last)

    def first(self, event_id: str) -> Entry | None:
        """See ``Journal``."""
        return self._do(self._reader, "read", lambda connection: self._first(connection, event_id))

    async def _first(self, connection: asyncpg.Connection, event_id: str) -> Entry | None:
        row = await connection.fetchrow(statements.FIRST, event_id)
        await self._history.current(connection)
        return Entry(*row) if row else None

    def bounds(self) -> tuple[int, int]:
        """See ``Journal``."""
        head = self._do(self._reader, "read", self._history.current)
        return head["before_oldest"], head["newest"]

    def stats(self) -> JournalStats:
        """See ``Journal``."""
        head = self._do(self._reader, "read", self._history.current)
        before, newest = head["before_oldest"], head["newest"]
        return JournalStats(newest - before, head["bytes"], before + 1, newest, head["dropped_unread"])

    def retire(
        self, *, older_than: float, max_bytes: int, chunk: int = 5_000, keep: RetentionLimits = KEEP_NOTHING
    ) -> int:
        """See ``Journal``."""

        async def retired(connection: asyncpg.Connection) -> int:
            async with connection.transaction():
                head = await self._history.head(connection, statements.LOCK)
                return await retire(connection, head, older_than, max_bytes, chunk, keep)

        return self._do(self._writer, "pruned", retired)

    def remember(self, reported: Sequence[Group]) -> list[Group]:
        """See ``Journal``."""

        async def remembered(connection: asyncpg.Connection) -> list[Group]:
            values = [one.name for one in reported], [one.settled for one in reported], [one.at for one in reported]
            await connection.execute(statements.REMEMBER, *values)
            return [Group(*row) for row in await connection.fetch(statements.GROUPS)]

        return self._do(self._writer, WRITTEN, remembered)

    def unread(self, after: int) -> tuple[int, int]:
        """See ``Journal``."""
        rows = self._do(self._reader, "read", lambda connection: connection.fetch(statements.UNREAD, after))
        return rows[0]["entries"], rows[0]["size"]

    def close(self) -> None:
        """See ``Journal``."""
        self._loop.close(self._writer.cut, self._reader.cut)

    def _do(self, session: PostgresSession, what: str, use: Use[T]) -> T:
        try:
            return self._loop.run(session.call(use))
        except LIBRARY_ERRORS as error:
            reason = masked(str(error)) or type(error).__name__
            doubt = "; if it was is in doubt, so publish again with the same ids" if in_doubt(error) else ""
            where = f"the journal in PostgreSQL at {self._where}"
            raise JournalError(f"{where} cannot be {what}: {reason}{doubt if what == WRITTEN else ''}") from error
