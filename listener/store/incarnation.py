"""Which claims table this is. The table is unlogged: after a crash or a failover it is empty, and so is the row
that names it; whoever comes first writes a new name."""

from listener.store.database import Connection
from listener.store.statements import statements


async def incarnation(connection: Connection) -> str:
    """Name the claims table behind this connection, founding it where it has no name."""
    sql = statements("listener.store", "roll.sql")
    while (name := await connection.fetchval(sql["place"])) is None:
        await connection.execute(sql["found_place"])
    return f"postgres:{name}"
