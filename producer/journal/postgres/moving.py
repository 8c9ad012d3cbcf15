"""A journal in PostgreSQL that is moved, or made of another. See ``MovableJournal``."""

from collections.abc import Sequence
from typing import TypeVar

import asyncpg

from unlost.ops.kit.telemetry.mask import masked
from unlost.producer.journal.groups import Group
from unlost.producer.journal.loop_thread import LoopThread
from unlost.producer.journal.moves import BATCH_BYTES, BATCH_ROWS, History, Mark, Row, lost_id, row_of
from unlost.producer.journal.port import Entry, JournalError
from unlost.producer.journal.postgres import statements
from unlost.producer.journal.postgres.marks import mark_in, put_mark
from unlost.producer.journal.postgres.rows import without_holes
from unlost.producer.journal.postgres.session import LIBRARY_ERRORS, PostgresSession, Use
from unlost.producer.journal.timelines import Timeline

T = TypeVar("T")


class MovableTables:
    """See the module."""

    keeps_ids = True
    settle = 0.0

    def __init__(self, url: str) -> None:
        self.where = masked(url)
        self._loop = LoopThread("journal in PostgreSQL")
        self._session = PostgresSession(url)

    def history(self) -> History | None:
        """See ``MovableJournal``."""
        return self._do("read", _history_in)

    def rows(self, after: int, history: History) -> list[Row]:
        """See ``MovableJournal``."""
        read = _entries if after >= history.before else _ids
        return self._do("read", lambda connection: read(connection, after))

    def mark(self, mark: Mark) -> None:
        """See ``MovableJournal``."""

        async def marked(connection: asyncpg.Connection) -> None:
            if await mark_in(connection) != mark:
                await put_mark(connection, mark)

        self._do("marked", marked)

    def begin(self, identity: str, before: int, mark: Mark) -> None:
        """See ``MovableJournal``."""

        async def begun(connection: asyncpg.Connection) -> None:
            async with connection.transaction():
                await _upgrade(connection)
                await connection.execute(statements.CLEAR)
                await connection.execute(statements.BEGIN, identity, before)
                await put_mark(connection, mark)

        self._do("made", begun)

    def place(self, rows: Sequence[Row], history: History) -> None:  # noqa: ARG002  the port's signature
        """See ``MovableJournal``."""

        async def placed(connection: asyncpg.Connection) -> None:
            async with connection.transaction():
                if await connection.fetchval(statements.LOCK_NEWEST) != rows[0].number - 1:
                    raise JournalError(f"the journal {self.where} is not as it was: another migration writes to it")
                columns = zip(*((row.number, row.event_id, row.digest, row.body, row.at) for row in rows), strict=True)
                await connection.execute(statements.COPY, *map(list, columns))
                size = sum(len(row.body) for row in rows if row.body is not None)
                dropped = max([row.number for row in rows if row.body is None], default=0)
                await connection.execute(statements.GREW, rows[-1].number, size, dropped)

        self._do("written", placed)

    def finish(self, history: History) -> None:
        """See ``MovableJournal``."""

        async def finished(connection: asyncpg.Connection) -> None:
            async with connection.transaction():
                await connection.execute(statements.LOCK_NEWEST)
                await connection.execute(statements.FORGET_TIMELINES, [])
                for one in history.timelines:
                    await connection.execute(statements.ADD_TIMELINE, one.ordinal, one.random, one.first)
                newest = max([one.ordinal for one in history.timelines], default=0)
                await connection.execute(statements.BEGIN_TIMELINE, newest)
                await connection.execute(statements.CLEAR_GROUPS)
                groups = [(one.name, one.settled, one.at, one.forgotten) for one in history.groups]
                if groups:
                    await connection.execute(statements.COPY_GROUPS, *map(list, zip(*groups, strict=True)))
                await connection.execute(statements.COPY_HEAD, history.dropped_unread, history.probed_at)
                await connection.execute(statements.REMOVE_MARK)

        self._do("opened for producers", finished)

    def close(self) -> None:
        """Close the connection."""
        self._loop.close(self._session.cut)

    def _do(self, what: str, use: Use[T]) -> T:
        try:
            return self._loop.run(self._session.call(use))
        except LIBRARY_ERRORS as error:
            reason = masked(str(error)) or type(error).__name__
            raise JournalError(f"the journal in PostgreSQL at {self.where} cannot be {what}: {reason}") from error


async def _upgrade(connection: asyncpg.Connection) -> None:
    if not await connection.fetchval(statements.HAS_MARKS):
        await connection.execute(statements.ONE_AT_A_TIME)
        await connection.execute(statements.SCHEMA)


async def _history_in(connection: asyncpg.Connection) -> History | None:
    if not await connection.fetchval(statements.IS_THERE):
        return None
    async with connection.transaction():
        await _upgrade(connection)
    async with connection.transaction(isolation="repeatable_read"):
        head = await connection.fetchrow(statements.HEAD)
        if head is None:
            return None
        return History(
            identity=head["identity"],
            before_ids=head["forgotten"],
            before=head["before_oldest"],
            newest=head["newest"],
            timelines=tuple([Timeline(*row) for row in await connection.fetch(statements.TIMELINES)]),
            groups=tuple([Group(*row) for row in await connection.fetch(statements.GROUPS)]),
            dropped_unread=head["dropped_unread"],
            probed_at=head["probed_at"],
            mark=await mark_in(connection),
        )


async def _entries(connection: asyncpg.Connection, after: int) -> list[Row]:
    found = await connection.fetch(statements.READ, after, BATCH_ROWS, BATCH_BYTES)
    if not found or found[0]["before"] > after:
        return []
    entries = [Entry(*row[3:]) for row in found if row["number"] is not None]
    is_all = len(entries) < BATCH_ROWS and sum(len(one.body) for one in entries) < BATCH_BYTES
    last = min(found[0]["newest"], after + BATCH_ROWS) if is_all else entries[-1].number
    return [row_of(one) for one in without_holes(entries, after + 1, last)]


async def _ids(connection: asyncpg.Connection, after: int) -> list[Row]:
    found = await connection.fetch(statements.IDS, after, BATCH_ROWS)
    if not found or found[0]["forgotten"] > after:
        return []
    rows = [Row(row["number"], row["event_id"], row["digest"], None, row["at"]) for row in found if row["number"]]
    there = {row.number: row for row in rows}
    last = max(there) if len(there) == BATCH_ROWS else min(found[0]["dropped"], after + BATCH_ROWS)
    return [there.get(number) or lost_id(number) for number in range(after + 1, last + 1)]
