"""The schema of a group, in numbered files that are applied once, in order, by one process at a time.

An advisory lock makes listeners that start at the same time take turns. A checksum shows whether an applied file was
changed afterwards; that is refused. If no file is missing, migrating needs no other rights than reading and writing
rows: a role without rights on the schema itself can start.

The files name their tables without a schema. The transaction that applies them finds them in the group's schema. Tables
of an early version without schemas are in ``public``. They are moved (see ``earlier.py``), never left beside empty
ones.

PostgreSQL looks for an unqualified name in the schema with the role's name before it looks in ``public``. With a role
named like our schema, a handler's ``events`` would mean ours, and a table made by hand would get among ours. So the
search path of such a role is set to what it was before that schema existed.
"""

import hashlib
from importlib import resources

import asyncpg
import msgspec

from unlost.listener.core.errors import Misconfigured, Unavailable
from unlost.listener.core.shard import Shard
from unlost.listener.store.postgres import earlier
from unlost.listener.store.postgres.connections import Connection
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.statements import group_of, quoted

LOCK = 7_316_540_112_839
"""Any number that all of us and nobody else use."""

RECORD = """
CREATE TABLE migrations (
    name text PRIMARY KEY,
    sha256 text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
)
"""
HAS_SCHEMA = "SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = $1)"
OURS = "SELECT nspname FROM pg_catalog.pg_namespace WHERE starts_with(nspname, 'unlost')"
HAS_RECORD = "SELECT EXISTS (SELECT FROM pg_catalog.pg_tables WHERE schemaname = $1 AND tablename = 'migrations')"

MADE_MEANWHILE = (asyncpg.UniqueViolationError, asyncpg.DuplicateSchemaError, asyncpg.DuplicateTableError)
"""Our own lock keeps listeners apart, but not a restore. It makes the same schema and tables, and fills them later."""
HAS_EVENTS = "SELECT EXISTS (SELECT FROM pg_catalog.pg_tables WHERE schemaname = $1 AND tablename = 'events')"
NOWHERE = "''"
MISLED = """
SELECT current_setting('search_path') AS path, quote_ident(current_database()) AS database
WHERE current_user = $1 AND $1 = ANY (current_schemas(false))
"""

EDITED = {"0008_letters.sql": "508676f684e847475c393185ff5aa2880b5199bcfea7c146c391018da70a1ad9"}
"""A file that was changed between two releases, and changed back. ``0012`` makes databases with either the same."""


class Migration(msgspec.Struct, frozen=True):
    """One file."""

    name: str
    sql: str

    @property
    def sha256(self) -> str:
        """The checksum by which the file is recognised."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


class Migrated(msgspec.Struct, frozen=True):
    """The outcome: the files that were applied, and whether tables of an early version were moved before."""

    schema: str
    applied: tuple[str, ...] = ()
    moved: bool = False


def known_migrations() -> list[Migration]:
    """Return the files of this version, in order."""
    files = resources.files("unlost.listener.store.postgres").joinpath("migrations").iterdir()
    return sorted(
        (Migration(file.name, file.read_text(encoding="utf-8")) for file in files if file.name.endswith(".sql")),
        key=lambda migration: migration.name,
    )


async def migrate(database: Database) -> Migrated:
    """Apply every missing file in one transaction: all or none."""
    await database.open()
    async with database.acquire("migrating the schema") as connection:
        try:
            return await _brought_up(connection, database)
        except asyncpg.InsufficientPrivilegeError as error:
            raise _not_allowed(database.schema, error) from None
        except MADE_MEANWHILE as error:
            raise Unavailable(
                f"another process has just made {database.schema}: {error}; is it being restored?"
            ) from None


async def check(database: Database) -> Migrated:
    """Refuse to start if a file is missing, and change nothing."""
    await database.open()
    async with database.acquire("looking at the schema") as connection:
        try:
            missing = await _missing(connection, database.schema)
        except asyncpg.InsufficientPrivilegeError as error:
            raise _not_allowed(database.schema, error) from None
        if len(missing) == len(known_migrations()) and await connection.fetchval(HAS_EVENTS, database.schema):
            raise Unavailable(
                f"{database.schema} has tables, but not the list of what made them; is it being restored?"
            )
    if missing:
        raise Misconfigured(
            f"schema {database.schema} lacks {', '.join(one.name for one in missing)}, and nothing is "
            "migrated here; correct GROUP, or run `unlost migrate` first"
        )
    return Migrated(database.schema)


async def _brought_up(connection: Connection, database: Database) -> Migrated:
    done = Migrated(database.schema)
    if await _missing(connection, database.schema):
        async with connection.transaction():
            done = await _migrate(connection, database)
    misled = await connection.fetchrow(MISLED, database.schema)
    if misled and '"$user"' in misled["path"]:  # otherwise somebody has named the schema on purpose
        await _lead_elsewhere(connection, **misled)
        await database.expire()
    return done


async def _migrate(connection: Connection, database: Database) -> Migrated:
    schema = quoted(database.schema)
    await connection.execute("SELECT pg_advisory_xact_lock($1)", LOCK, timeout=60)
    if not await connection.fetchval(HAS_SCHEMA, database.schema):
        await _refuse_divided_otherwise(connection, database.group)
        await connection.execute(f"CREATE SCHEMA {schema}")
    await connection.execute(f"SET LOCAL search_path = {schema}")
    moved = False
    if not await connection.fetchval(HAS_RECORD, database.schema):
        moved = await earlier.move(connection, database.group, known_migrations()[0].sha256)
        if not moved:
            await connection.execute(RECORD)
    missing = await _missing(connection, database.schema)
    for migration in missing:
        await _apply(connection, migration)
    return Migrated(database.schema, tuple(one.name for one in missing), moved)


async def _refuse_divided_otherwise(connection: Connection, group: str) -> None:
    """Refuse a new group if another number of shards, or one group, has stored the same events in this database."""
    groups = [group_of(row["nspname"]) for row in await connection.fetch(OURS)]
    if (other := Shard.divided_otherwise(group, filter(None, groups))) is not None:
        raise Misconfigured(
            f"GROUP={group}: this database has the tables of the group {other}, which divides the same events "
            f"otherwise, so its events would be stored again here. Give the new groups another name"
        )


async def _lead_elsewhere(connection: Connection, path: str, database: str) -> None:
    """Keep this role's unqualified names from being found in the schema with the role's name."""
    rest = [one.strip() for one in path.split(",") if one.strip() != '"$user"']
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", LOCK, timeout=60)
        await connection.execute(
            f"ALTER ROLE CURRENT_USER IN DATABASE {database} SET search_path TO {', '.join(rest) or NOWHERE}"
        )


async def _missing(connection: Connection, schema: str) -> list[Migration]:
    known = known_migrations()
    if not await connection.fetchval(HAS_RECORD, schema):
        return known
    rows = await connection.fetch(f"SELECT name, sha256 FROM {quoted(schema)}.migrations")  # noqa: S608  quoted
    applied = {row["name"]: row["sha256"] for row in rows}
    changed = [m.name for m in known if applied.get(m.name, m.sha256) not in (m.sha256, EDITED.get(m.name))]
    if changed:
        raise Misconfigured(*(f"migration {name} was changed after the database had applied it" for name in changed))
    return [m for m in known if m.name not in applied]


async def _apply(connection: Connection, migration: Migration) -> None:
    await connection.execute(migration.sql, timeout=600)
    await connection.execute("INSERT INTO migrations (name, sha256) VALUES ($1, $2)", migration.name, migration.sha256)


def _not_allowed(schema: str, error: asyncpg.PostgresError) -> Misconfigured:
    return Misconfigured(
        f"schema {schema} is not up to date, or closed to this role, which may not change that: {error}; run "
        "`unlost migrate` as a role that may, and grant this one USAGE on the schema and SELECT, INSERT, UPDATE, "
        "DELETE on its tables"
    )
