"""Retention, within a transaction that holds the head: deletes old rows, and drops bodies beyond the size limit."""

import asyncpg

from unlost.producer.journal.groups import RetentionLimits
from unlost.producer.journal.postgres import statements
from unlost.producer.journal.retention import too_much, too_old


async def retire(
    connection: asyncpg.Connection,
    head: asyncpg.Record,
    older_than: float,
    max_bytes: int,
    chunk: int,
    keep: RetentionLimits,
) -> int:
    """Apply both limits. Returns how many changed, and counts what was unread."""
    before = head["before_oldest"]
    oldest = [tuple(row) for row in await connection.fetch(statements.OLDEST, 0, chunk)]
    old = too_old(oldest, older_than=older_than, keep_after=keep.after)
    if old.count:
        await connection.execute(statements.FORGET, old.last, 0)
    dropped = max(head["dropped"], old.last)
    oldest = [tuple(row) for row in await connection.fetch(statements.OLDEST, dropped, chunk)]
    much = too_much(oldest, held=head["bytes"] - old.size, max_bytes=max_bytes, keep_after=keep.after)
    if much.count:
        await connection.execute(statements.EMPTY, dropped, much.last)
    if count := old.count + much.count:
        await connection.execute(statements.SHRINK, old.size + much.size, old.last, much.last)
        unread = max(before, old.last, much.last) - max(before, keep.read)
        await connection.execute(statements.DROPPED_UNREAD, max(0, unread))
        return count
    return 0
