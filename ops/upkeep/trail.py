"""``unlost trail``: read who changed what, and verify that nobody has changed, removed or added an entry since."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec
from pydantic import Field

from unlost.dlq.record.trail import BrokenTrail, Chain, TrailEntry, read
from unlost.listener.app.group_name import GroupName
from unlost.listener.core.errors import Misconfigured, Permanent, Transient
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.trail import TableTrail
from unlost.ops.kit.access.tls_settings import DatabaseTlsSettings
from unlost.ops.kit.command import SecretUrl, UsageProblem, command, main_group, say, say_json_text
from unlost.ops.kit.telemetry.counted import counted
from unlost.ops.kit.telemetry.printable import printable


class TrailSettings(DatabaseTlsSettings):
    """The group whose trail it is."""

    database_url: SecretUrl = Field(
        SecretUrl("postgresql://postgres@127.0.0.1:5432/postgres"),
        description="PostgreSQL, with the trail of the group",
    )
    group: GroupName = Field("unlost", description="The group of listeners")


_file = click.Argument(["file"], required=False, type=click.Path(path_type=Path))


@command(
    TrailSettings,
    name="list",
    examples=["unlost trail list", "unlost trail list --json", "unlost trail list tokens.jsonl.trail"],
    params=[_file, click.Option(["--json", "as_json"], is_flag=True, help="Print JSON lines.")],
)
def list_(settings: TrailSettings, file: Path | None, as_json: bool) -> int:
    """List who changed what, oldest first: of the group in PostgreSQL, or of a FILE."""
    return _ran(_list(settings, file, _say_as_json if as_json else _say))


@command(
    TrailSettings,
    name="verify",
    examples=["unlost trail verify", "unlost trail verify --last 3f9c…", "unlost trail verify tokens.jsonl.trail"],
    params=[
        _file,
        click.Option(["--last"], default="", help="A last hash of before, which must still be in the chain."),
    ],
)
def verify(settings: TrailSettings, file: Path | None, last: str) -> int:
    """Check the chain: exit code 1 if an entry was changed, removed or added.

    Note the last hash elsewhere and give it as --last the next time: only so does a cut off end show.
    """
    return _ran(_verify(settings, file, last))


@command(
    TrailSettings,
    name="merge",
    examples=["unlost trail merge failed_events.jsonl.trail", "unlost trail merge tokens.jsonl.trail --group eu"],
    params=[click.Argument(["file"], type=click.Path(path_type=Path))],
)
def merge(settings: TrailSettings, file: Path) -> int:
    """Put the entries of a FILE into the trail in PostgreSQL, each once, with its own time and author.

    Commands for letters and the console do so by themselves after an outage. A file whose chain is broken is refused.
    """
    return _ran(_merge(settings, file))


async def _merge(settings: TrailSettings, file: Path) -> int:
    database = Database(settings.database_url.reveal(), group=settings.group, name="unlost trail", connections=1)
    try:
        say(f"{counted(await TableTrail(database).merge(file), 'entry', 'entries')} merged")
    except OSError as error:
        raise UsageProblem(f"{file}: {error.strerror}") from None
    finally:
        await database.close()
    return 0


def _ran(work: Coroutine[None, None, int]) -> int:
    try:
        return asyncio.run(work)
    except (BrokenTrail, Misconfigured, Transient, Permanent) as error:
        raise UsageProblem(str(error)) from None


async def _list(settings: TrailSettings, file: Path | None, show: Callable[[TrailEntry], None]) -> int:
    async for one in _links(settings, file):
        show(one)
    return 0


def _say_as_json(one: TrailEntry) -> None:
    say_json_text(msgspec.json.encode(one).decode())


def _say(one: TrailEntry) -> None:
    when = datetime.fromtimestamp(one.at / 1_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    why = f" because: {one.why}" if one.why else ""
    say(printable(f"{one.number:>6}  {when}  {one.who}  {one.origin}  {one.what}: {one.about}: {one.result}{why}"))


async def _verify(settings: TrailSettings, file: Path | None, last: str) -> int:
    chain, has_last = Chain(), not last
    async with aclosing(_links(settings, file)) as links:
        async for one in links:
            if why := chain.broken_by(one):
                return _is_broken(why)
            has_last = has_last or one.hash == last
    if not has_last:
        return _is_broken(f"no entry has the hash {last}: the end of the trail was cut off, or the trail was replaced")
    entries = counted(chain.count, "entry", "entries")
    say(f"{entries}; the chain is whole; the last hash is {chain.last or 'none'}")
    return 0


def _is_broken(why: str) -> int:
    say(f"error: the trail is broken: {why}", err=True)
    return 1


async def _links(settings: TrailSettings, file: Path | None) -> AsyncGenerator[TrailEntry, None]:
    """The entries, oldest first. The whole trail is never in memory."""
    if file is not None:
        try:
            for one in read(file):
                yield one
        except OSError as error:
            raise UsageProblem(f"{file}: {error.strerror}") from None
        return
    database = Database(settings.database_url.reveal(), group=settings.group, name="unlost trail", connections=1)
    try:
        async for page in TableTrail(database).each():
            for one in page:
                yield one
    finally:
        await database.close()


trail: click.Group = main_group(
    "trail",
    [list_, verify, merge],
    help="Read and verify the trail of changes.",
    examples=["unlost trail list", "unlost trail verify"],
)
