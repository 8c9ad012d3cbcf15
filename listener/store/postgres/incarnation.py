"""Which claims table this is. The table is unlogged: after a crash or a failover it is empty, and so is the row
that names it; whoever comes first writes a new name."""

from collections.abc import Mapping

from unlost.listener.store.postgres.database import Connection


async def incarnation(connection: Connection, sql: Mapping[str, str]) -> str:
    """Name the claims table behind this connection; found it where it has none. ``sql``: of ``membership.sql``."""
    while (name := await connection.fetchval(sql["place"])) is None:
        await connection.execute(sql["found_place"])
    return f"postgres:{name}"
