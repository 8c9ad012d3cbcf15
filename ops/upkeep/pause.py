"""``unlost pause`` and ``unlost resume``: a listener reads nothing, or a route runs nothing, until it is resumed."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import click
from pydantic import Field

from unlost.dlq.record.trail import Act, whoami
from unlost.listener.app.group_name import GroupName
from unlost.listener.core.errors import Misconfigured, Permanent, Transient
from unlost.listener.core.pause import Paused
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.pauses import MOST, PostgresPauses
from unlost.listener.store.postgres.trail import TableTrail
from unlost.ops.kit.access.tls_settings import DatabaseTlsSettings
from unlost.ops.kit.command import SecretUrl, UsageProblem, command, say
from unlost.ops.kit.telemetry.printable import printable

MOST_WORDS = 500


class PauseSettings(DatabaseTlsSettings):
    """The group whose listener or route is paused."""

    database_url: SecretUrl = Field(
        SecretUrl("postgresql://postgres@127.0.0.1:5432/postgres"), description="PostgreSQL, with the group's tables"
    )
    group: GroupName = Field("unlost", description="The group of listeners")


KIND = click.Argument(["kind"], type=click.Choice(["listener", "route"]))
NAME = click.Argument(["name"])


@command(
    PauseSettings,
    examples=[
        "unlost pause listener a --why 'its host gets a new disk'",
        "unlost pause route reserve --why incident-7",
    ],
    params=[
        KIND, NAME, click.Option(["--why"], required=True, help="The reason, for health, console and trail."),
        click.Option(["--anyway"], is_flag=True, help="Also what no listener has yet, such as a new route."),
    ],
)  # fmt: skip
def pause(settings: PauseSettings, kind: Paused, name: str, why: str, *, anyway: bool) -> int:
    """Pause a listener, which then reads nothing, or a route of the handler, whose events then wait in memory.

    It lasts until `unlost resume`, also across restarts. A listener obeys within a second or two, and finishes what it
    holds; one that waits for its source reads what comes next. It reads on what would not be sent again. A replay is
    not paused. A listener or route that is unknown is refused, with the list of those that are known.
    """
    why = why.strip()
    if not 1 <= len(why) <= MOST_WORDS:
        raise UsageProblem(f"--why has 1 to {MOST_WORDS} characters")

    async def work(database: Database) -> bool:
        kept = PostgresPauses(database)
        doubt = await kept.doubt(kind, name)
        if doubt.refuses and not anyway:
            raise UsageProblem(f"{doubt.why}; --anyway pauses it all the same")
        if doubt.why:
            say(printable(f"warning: {doubt.why}"), err=True)
        return await kept.begin(kind, name, by=whoami(), why=why)

    changed = _done(settings, work, Act(whoami(), "unlost pause", "paused", f"{kind} {name}", why, "paused"))
    held = f"is paused already, or {MOST} others are; `unlost pauses` lists them"
    say(printable(f"{kind} {name} {'is paused' if changed else held}"))
    return 0 if changed else 1


@command(PauseSettings, examples=["unlost resume listener a", "unlost resume route reserve"], params=[KIND, NAME])
def resume(settings: PauseSettings, kind: Paused, name: str) -> int:
    """End a pause."""

    async def work(database: Database) -> bool:
        return await PostgresPauses(database).end(kind, name)

    changed = _done(settings, work, Act(whoami(), "unlost resume", "resumed", f"{kind} {name}", "", "resumed"))
    say(printable(f"{kind} {name} {'goes on' if changed else 'is not paused'}"))
    return 0 if changed else 1


@command(PauseSettings, examples=["unlost pauses"])
def pauses(settings: PauseSettings) -> int:
    """List the listeners and routes that are paused, with who paused them and why."""

    async def work(database: Database) -> bool:
        found = await PostgresPauses(database).now()
        for one in found:
            since = datetime.fromtimestamp(one.since, UTC).strftime("%Y-%m-%d %H:%M:%S")
            say(printable(f"{one.kind} {one.name}  since {since} UTC  {one}"))
        return bool(found)

    if not _done(settings, work, None):
        say("nothing is paused")
    return 0


def _done(settings: PauseSettings, work: Callable[[Database], Awaitable[bool]], act: Act | None) -> bool:
    async def run() -> bool:
        database = Database(settings.database_url.reveal(), group=settings.group, name="unlost pause", connections=1)
        try:
            changed = await work(database)
            if changed and act is not None:
                await TableTrail(database).append(act)
            return changed
        finally:
            await database.close()

    try:
        return asyncio.run(run())
    except (Misconfigured, Transient, Permanent) as error:
        raise UsageProblem(str(error)) from None
