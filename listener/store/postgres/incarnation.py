"""The incarnation of the claims table. The table is unlogged: after a crash or a failover it is empty.

So is the row that names it. The first process that looks then writes a new name.
"""

from collections.abc import Mapping

from unlost.listener.store.postgres.connections import Connection


async def incarnation(connection: Connection, sql: Mapping[str, str]) -> str:
    """Name the claims table behind this connection; create a name if it has none. ``sql``: of ``membership.sql``."""
    while (name := await connection.fetchval(sql["place"])) is None:
        await connection.execute(sql["found_place"])
    return f"postgres:{name}"
