"""A journal in PostgreSQL as a producer knows it: its newest number, and the timelines of all producers.

It raises ``HistoryLost`` once the journal does not continue what was read before.
"""

import secrets
import time
from collections.abc import Sequence
from typing import NamedTuple

import asyncpg

from unlost.producer.journal.moves import refuse_marked
from unlost.producer.journal.port import HistoryLost
from unlost.producer.journal.postgres import statements
from unlost.producer.journal.postgres.marks import mark_in
from unlost.producer.journal.timelines import Timeline, Timelines, next_timeline, still_needed


class _Seen(NamedTuple):
    newest: int
    read_up_to: int


class PostgresHistory:
    """The history of one journal, as one producer has read it."""

    def __init__(self, where: str) -> None:
        """``where``: the journal's address, for messages."""
        self._where = where
        self.newest = 0
        """The newest number that was announced or read."""
        self.held = 0
        """The bytes of all bodies."""
        self.identity = ""
        self.timelines: Timelines
        self._read_up_to = 0
        """The newest number whose timeline is known."""
        self._known: list[Timeline] = []

    @property
    def timeline(self) -> int:
        """The ordinal of the current timeline."""
        return self._known[-1].ordinal

    async def begin_timeline(self, connection: asyncpg.Connection) -> None:
        """Begin a timeline before this session issues any cursor."""
        if not await connection.fetchval(statements.IS_THERE):
            async with connection.transaction():
                await connection.execute(statements.ONE_AT_A_TIME)
                await connection.execute(statements.SCHEMA)
                await connection.execute(statements.IDENTIFY, secrets.token_hex(6))
        async with connection.transaction():
            head = await self.head(connection, statements.LOCK)
            known = await self._timelines(connection)
            self._check(head, known, self._seen)
            begun = next_timeline(known, head["newest"], time.time())
            needed = still_needed([*known, begun], head["before_oldest"])
            await connection.execute(statements.ADD_TIMELINE, begun.ordinal, begun.random, begun.first)
            await connection.execute(statements.FORGET_TIMELINES, [one.ordinal for one in needed])
            await connection.execute(statements.BEGIN_TIMELINE, begun.ordinal)
        self._learned(head, needed)

    async def head(
        self, connection: asyncpg.Connection, statement: str = statements.HEAD, *values: object
    ) -> asyncpg.Record:
        """A statement that returns the head. Another journal has none, or another timeline."""
        head = await connection.fetchrow(statement, *values)
        if head is None:
            raise self.lost
        return head

    async def current(self, connection: asyncpg.Connection) -> asyncpg.Record:
        """The head, after the timelines of whatever it counts are known."""
        seen = self.newest
        head = await self.head(connection)
        if head["newest"] < seen:
            raise self.lost
        await self.learn(connection, head["timeline"])
        self.note(head["newest"], head["bytes"])
        return head

    async def learn(self, connection: asyncpg.Connection, timeline: int) -> None:
        """Learn the timelines of other producers, if this current one is not known yet."""
        if self.timeline == timeline:
            return
        seen = self._seen
        head = await self.head(connection)
        known = await self._timelines(connection)
        self._check(head, known, seen)
        self._learned(head, known)

    async def _timelines(self, connection: asyncpg.Connection) -> list[Timeline]:
        """All timelines. Raises ``Moved``: marking a journal begins a timeline, so whoever writes looks here."""
        refuse_marked(self._where, await mark_in(connection))
        return [Timeline(*row) for row in await connection.fetch(statements.TIMELINES)]

    def note(self, newest: int, held: int) -> None:
        """Note what a reply said."""
        self.newest, self.held = max(self.newest, newest), held
        self._read_up_to = max(self._read_up_to, newest)

    @property
    def lost(self) -> HistoryLost:
        """The error to raise."""
        return HistoryLost(
            f"the journal in PostgreSQL at {self._where} does not continue what this producer has read: it was "
            "restored from a backup, or a standby without its last commits was promoted; start the producer again"
        )

    def _check(self, head: asyncpg.Record, known: Sequence[Timeline], seen: _Seen) -> None:
        """Raise ``HistoryLost`` unless the journal continues what was seen before."""
        before = [one for one in known if one.first <= seen.read_up_to]
        shorter = head["newest"] < seen.newest
        if shorter or self.identity not in ("", head["identity"]) or any(one not in self._known for one in before):
            raise self.lost

    def _learned(self, head: asyncpg.Record, known: list[Timeline]) -> None:
        self._known = known
        if self.identity:
            self.timelines.learn(known)
        else:
            self.identity = head["identity"]
            self.timelines = Timelines(self.identity, known)
        self.note(head["newest"], head["bytes"])

    @property
    def _seen(self) -> _Seen:
        """Taken before a call, because others commit during it."""
        return _Seen(self.newest, self._read_up_to)
