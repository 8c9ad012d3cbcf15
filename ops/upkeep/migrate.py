"""``unlost migrate``: create or update the tables of one group before listeners start, with a role that may do so."""

import asyncio

import click
from pydantic import Field

from unlost.listener.app.group_name import GroupName
from unlost.listener.core.errors import Misconfigured, Permanent, Transient
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.grants import KINDS, grant
from unlost.listener.store.postgres.migrations import Migrated, migrate
from unlost.ops.kit.access.tls_settings import DatabaseTlsSettings
from unlost.ops.kit.command import SecretUrl, UsageProblem, command


class MigrateSettings(DatabaseTlsSettings):
    """The group, and where its tables are."""

    database_url: SecretUrl = Field(
        SecretUrl("postgresql://postgres@127.0.0.1:5432/postgres"),
        description="PostgreSQL, with a role that may change the schema",
    )
    group: GroupName = Field("unlost", description="The group of listeners that owns the tables")


@command(
    MigrateSettings,
    name="migrate",
    examples=[
        "unlost migrate",
        "unlost migrate --group billing --database-url postgresql://owner@db/shop",
        "unlost migrate --grants-listener unlost_listener --grants-console unlost_console --grants-handler shop",
    ],
    params=[
        click.Option(
            [f"--grants-{kind}"], metavar="ROLE", help=f"Give this role the rights of a {kind}, and no others."
        )
        for kind in KINDS
    ],
)
def migrate_command(
    settings: MigrateSettings, grants_listener: str | None, grants_console: str | None, grants_handler: str | None
) -> int:
    """Create the schema of a group, or bring its tables up to date; up-to-date tables are not changed."""
    given = zip(KINDS, (grants_listener, grants_console, grants_handler), strict=True)
    try:
        done, granted = asyncio.run(_migrate(settings, {kind: role for kind, role in given if role}))
    except Misconfigured as error:
        raise UsageProblem(*error.mistakes) from None
    except (Transient, Permanent) as error:
        click.echo(f"error: {error}; nothing was changed", err=True)
        return 1
    for line in (*lines_of(done), *granted):
        click.echo(line)
    return 0


def lines_of(done: Migrated) -> list[str]:
    """Describe what was done, line by line."""
    lines = ["moved the tables of an earlier version from schema public"] if done.moved else []
    lines += [f"applied {name}" for name in done.applied]
    return [*lines, f"schema {done.schema} is up to date"]


async def _migrate(settings: MigrateSettings, roles: dict[str, str]) -> tuple[Migrated, list[str]]:
    database = Database(settings.database_url.reveal(), group=settings.group, name="unlost migrate", connections=1)
    try:
        done = await migrate(database)
        return done, await grant(database, roles) if roles else []
    finally:
        await database.close()
