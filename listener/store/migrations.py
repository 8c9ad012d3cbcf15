"""The schema, in numbered files that are applied once, in order, by one process at a time.

An advisory lock makes ten listeners that start at once take turns; a checksum tells when a file that has
been applied was changed afterwards, which is refused rather than guessed about.
"""

import hashlib
from importlib import resources

import msgspec

from listener.errors import Misconfigured
from listener.store.database import Connection, Database

LOCK = 7_316_540_112_839
"""Any number, as long as all of us and nobody else use it."""

RECORD = """
CREATE TABLE IF NOT EXISTS migrations (
    name text PRIMARY KEY,
    sha256 text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
)
"""


class Migration(msgspec.Struct, frozen=True):
    """One file."""

    name: str
    sql: str

    @property
    def sha256(self) -> str:
        """What the file is recognised by."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def known_migrations() -> list[Migration]:
    """The files that came with this version, in order."""
    files = resources.files("listener.store").joinpath("migrations").iterdir()
    return sorted(
        (Migration(file.name, file.read_text(encoding="utf-8")) for file in files if file.name.endswith(".sql")),
        key=lambda migration: migration.name,
    )


async def migrate(database: Database) -> list[str]:
    """Apply what is missing, and return the names. All of it in one transaction: all or nothing."""
    await database.open()
    async with database.acquire("migrating the schema") as connection, connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", LOCK, timeout=60)
        await connection.execute(RECORD)
        return [migration.name for migration in await _missing(connection) if await _apply(connection, migration)]


async def _missing(connection: Connection) -> list[Migration]:
    applied = {row["name"]: row["sha256"] for row in await connection.fetch("SELECT name, sha256 FROM migrations")}
    known = known_migrations()
    changed = [m.name for m in known if applied.get(m.name, m.sha256) != m.sha256]
    if changed:
        raise Misconfigured(*(f"migration {name} was changed after the database had applied it" for name in changed))
    return [m for m in known if m.name not in applied]


async def _apply(connection: Connection, migration: Migration) -> bool:
    await connection.execute(migration.sql, timeout=600)
    await connection.execute("INSERT INTO migrations (name, sha256) VALUES ($1, $2)", migration.name, migration.sha256)
    return True
