"""``unlost migrate``: make or bring up to date the tables of one group, as a role that may, before listeners start."""

import asyncio

import click
from pydantic import Field

from unlost.listener.app.settings import GroupName
from unlost.listener.core.errors import Misconfigured, Permanent, Transient
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.migrations import Migrated, migrate
from unlost.ops.kit.command import SecretUrl, Settings, UsageProblem, command


class MigrateSettings(Settings):
    """Whose tables, and where."""

    database_url: SecretUrl = Field(
        SecretUrl("postgresql://postgres@127.0.0.1:5432/postgres"),
        description="PostgreSQL, as a role that may change it",
    )
    group: GroupName = Field("unlost", description="The group of listeners whose tables they are")


@command(
    MigrateSettings,
    name="migrate",
    examples=["unlost migrate", "unlost migrate --group billing --database-url postgresql://owner@db/shop"],
)
def migrate_command(settings: MigrateSettings) -> int:
    """Make the schema of a group, or bring its tables up to date; what is up to date is left alone."""
    try:
        done = asyncio.run(_migrate(settings))
    except Misconfigured as error:
        raise UsageProblem(*error.mistakes) from None
    except (Transient, Permanent) as error:
        click.echo(f"error: {error}; nothing was changed", err=True)
        return 1
    for line in told(done):
        click.echo(line)
    return 0


def told(done: Migrated) -> list[str]:
    """What was done, in lines."""
    lines = ["moved the tables of an earlier version from schema public"] if done.moved else []
    lines += [f"applied {name}" for name in done.applied]
    return [*lines, f"schema {done.schema} is up to date"]


async def _migrate(settings: MigrateSettings) -> Migrated:
    database = Database(settings.database_url.reveal(), group=settings.group, name="unlost migrate", connections=1)
    try:
        return await migrate(database)
    finally:
        await database.close()
