"""The outcomes of audits in PostgreSQL: whoever audits records them, and the console shows the last one."""

import json
from collections.abc import Mapping

import asyncpg
import msgspec

from unlost.listener.store.postgres.connections import Connection
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.statements import schema_of, statements

KEPT = 1_000
"""How many outcomes are kept: six weeks of an audit each hour."""
FILE = ("unlost.listener.store.postgres", "audits.sql")


class LastAudit(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of the last audit. ``wrong``: the sums that should be 0 and are not, by column; empty if all is well.

    ``at``: epoch seconds.
    """

    at: float
    who: str
    accepted: int
    wrong: Mapping[str, int]


async def record(database: Database, who: str, accepted: int, wrong: Mapping[str, int]) -> None:
    """Record the outcome of an audit of all events, and delete all but the latest."""
    sql = database.statements(*FILE)
    async with database.acquire("recording the audit") as connection, connection.transaction():
        await connection.execute(sql["record"], who, not wrong, accepted, json.dumps(dict(wrong)))
        await connection.execute(sql["forget"], KEPT)


async def last_audit(connection: Connection, group: str) -> LastAudit | None:
    """Return the last audit; None if there was none, or the tables are of an earlier version."""
    try:
        found = await connection.fetchrow(statements(*FILE, schema_of(group))["latest"])
    except (asyncpg.UndefinedTableError, asyncpg.InsufficientPrivilegeError):
        return None
    if found is None:
        return None
    return LastAudit(at=found["at"], who=found["who"], accepted=found["accepted"], wrong=json.loads(found["wrong"]))
