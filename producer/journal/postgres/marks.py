"""The mark of a journal in PostgreSQL that has moved, or that is being made of another."""

import time

import asyncpg

from unlost.producer.journal.moves import Mark
from unlost.producer.journal.postgres import statements
from unlost.producer.journal.timelines import Timeline, next_timeline


async def mark_in(connection: asyncpg.Connection) -> Mark | None:
    """The mark, if there is one."""
    has_marks = await connection.fetchval(statements.HAS_MARKS)
    row = await connection.fetchrow(statements.MARK) if has_marks else None
    return None if row is None else Mark(*row)


async def put_mark(connection: asyncpg.Connection, mark: Mark) -> None:
    """Store the mark, and begin a timeline: so no producer stores anything before it has looked at the mark.

    The head is locked before the entries, as producers do. Any other order could deadlock with an append.
    """
    async with connection.transaction():
        await connection.execute(statements.LOCK_JOURNAL)
        await connection.execute(statements.TAKE_ENTRIES)
        if mark.state == "moved":
            await connection.execute(statements.REFUSE_ENTRIES)
        newest = await connection.fetchval(statements.LOCK_NEWEST)
        known = [Timeline(*row) for row in await connection.fetch(statements.TIMELINES)]
        begun = next_timeline(known, newest, time.time())
        await connection.execute(statements.ADD_TIMELINE, begun.ordinal, begun.random, begun.first)
        await connection.execute(statements.BEGIN_TIMELINE, begun.ordinal)
        await connection.execute(statements.PUT_MARK, mark.state, mark.other)
