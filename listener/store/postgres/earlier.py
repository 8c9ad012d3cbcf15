"""Tables of an early version without schemas: they are in ``public``, where all groups shared them.

Our own row in ``public.migrations`` identifies them, so another owner's table of the same name is left alone. They are
moved to the group whose work they hold. Tables that several groups shared cannot be divided, since nobody knows which
rows belong to which group. So that is refused.
"""

import asyncpg

from unlost.listener.core.errors import Misconfigured, Transient
from unlost.listener.store.postgres.connections import Connection
from unlost.listener.store.postgres.statements import DEFAULT_GROUP

FIRST = "0001_events_and_claims.sql"
TABLES = ("migrations", "events", "cursors", "listeners", "claims", "claims_place", "buried")
IS_LIKE_OURS = """
SELECT count(*) = 2 FROM pg_catalog.pg_attribute a
JOIN pg_catalog.pg_class c ON c.oid = a.attrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'public' AND c.relname = 'migrations' AND a.attname IN ('name', 'sha256') AND NOT a.attisdropped
    AND pg_catalog.has_table_privilege(c.oid, 'SELECT')
"""
IS_OURS = "SELECT EXISTS (SELECT FROM public.migrations WHERE name::text = $1 AND sha256::text = $2)"
GROUPS = """
SELECT DISTINCT group_name FROM (
    SELECT group_name FROM public.cursors UNION ALL SELECT group_name FROM public.claims {buried}) everywhere
ORDER BY group_name
"""
BURIED = "UNION ALL SELECT group_name FROM public.buried"
ALIVE = """
SELECT instance_id FROM public.listeners
WHERE seen_at BETWEEN clock_timestamp() - interval '30 seconds' AND clock_timestamp() + interval '30 seconds'
ORDER BY instance_id
"""
THERE = "SELECT tablename FROM pg_catalog.pg_tables WHERE schemaname = 'public' AND tablename = ANY ($1::text[])"


async def move(connection: Connection, group: str, sha256: str) -> bool:
    """Move the tables of an early version to the schema on the search path, if they are this group's."""
    if not await connection.fetchval(IS_LIKE_OURS) or not await connection.fetchval(IS_OURS, FIRST, sha256):
        return False
    there = {row["tablename"] for row in await connection.fetch(THERE, TABLES)}
    groups = await _groups(connection, "buried" in there)
    if group not in (groups or [DEFAULT_GROUP]):
        return False
    if len(groups) > 1:
        raise Misconfigured(
            f"schema public holds tables of an earlier version that the groups {', '.join(groups)} shared, and nobody "
            f"can tell whose rows are whose: delete what names the others from public.cursors, public.claims and "
            f"public.buried, and {group} takes the tables; or give {group} a database of its own"
        )
    await _nobody_uses_them(connection)
    schema = await connection.fetchval("SELECT pg_catalog.quote_ident(pg_catalog.current_schema())")
    for table in TABLES:
        if table in there:
            await connection.execute(f"ALTER TABLE public.{table} SET SCHEMA {schema}")
    return True


async def _groups(connection: Connection, has_buried: bool) -> list[str]:
    found: list[asyncpg.Record] = await connection.fetch(GROUPS.format(buried=BURIED if has_buried else ""))
    return [row["group_name"] for row in found]


async def _nobody_uses_them(connection: Connection) -> None:
    alive = [row["instance_id"] for row in await connection.fetch(ALIVE)]
    if alive:
        raise Transient(
            f"listeners of an earlier version, which knows no schemas, have used this database in the last 30 s: "
            f"{', '.join(alive)}; stop them before the tables are moved"
        )
