"""``unlost retention``: delete old rows in batches, but never rows that may still be needed to detect a duplicate."""

import asyncio

import click
from pydantic import Field

from unlost.listener.app.group_name import GroupName
from unlost.listener.core.errors import Misconfigured, Permanent, Transient
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.effects import PostgresEffects
from unlost.listener.store.postgres.rows import PostgresRows
from unlost.ops.kit.access.tls_settings import DatabaseTlsSettings
from unlost.ops.kit.command import SecretUrl, UsageProblem, command
from unlost.ops.kit.command.age import seconds_of
from unlost.ops.kit.telemetry.counted import counted


class RetentionSettings(DatabaseTlsSettings):
    """The settings of a retention: how much to delete, and where."""

    database_url: SecretUrl = Field(
        SecretUrl("postgresql://postgres@127.0.0.1:5432/postgres"), description="PostgreSQL with the rows"
    )
    group: GroupName = Field("unlost", description="The group of listeners whose rows are deleted")
    dedup_window: float = Field(7 * 86_400.0, ge=60, description="Seconds within which a duplicate may still arrive")
    batch: int = Field(5_000, ge=1, le=100_000, description="Rows deleted in one statement")


@command(
    RetentionSettings,
    examples=["unlost retention --older-than 30d", "unlost retention --older-than 12h --dedup-window 3600"],
    params=[click.Option(["--older-than"], required=True, help="Delete rows that are older than this, such as 30d.")],
)
def retention(settings: RetentionSettings, older_than: str) -> int:
    """Delete rows older than an age, which must not be shorter than the dedup window.

    Delivered effects of that age are deleted too. Those that wait, or have a letter that waits, stay.
    """
    seconds = seconds_of(older_than, "--older-than", "30d")
    if seconds < settings.dedup_window:
        raise UsageProblem(
            f"--older-than {older_than} is younger than the dedup window of {settings.dedup_window:,.0f} s: "
            "a duplicate of a deleted row would be stored again; choose a greater age"
        )
    try:
        asyncio.run(_prune(settings, seconds))
    except Misconfigured as error:
        raise UsageProblem(*error.mistakes) from None
    except (Transient, Permanent) as error:
        click.echo(f"error: {error}; run it again, it goes on where it stopped", err=True)
        return 1
    return 0


async def _prune(settings: RetentionSettings, seconds: float) -> None:
    database = Database(settings.database_url.reveal(), group=settings.group, name="unlost retention", connections=1)
    store = PostgresRows(database, instance_id="retention", token="retention")  # noqa: S106  writes no row
    effects = PostgresEffects(database, token="retention")  # noqa: S106  records none
    deleted = 0
    try:
        await database.open()
        async for count in store.prune(seconds, batch=settings.batch):
            deleted += count
            click.echo(f"\r{counted(deleted, 'row')} deleted", err=True, nl=False)
        while await effects.prune(seconds, batch=settings.batch) == settings.batch:
            pass
    finally:
        await database.close()
    click.echo(f"\r{counted(deleted, 'row')} deleted")
