"""The commands for the fleet's list alone: import letters of another system, and delete resolved letters."""

import contextlib
import time
from collections.abc import AsyncIterator
from itertools import islice
from pathlib import Path

import click
import msgspec

from unlost.dlq.commands.options import LetterSettings, json_option
from unlost.dlq.commands.render import say_json, warn_of
from unlost.dlq.commands.store import TIMEOUT, run
from unlost.dlq.commands.trail import noted
from unlost.dlq.record.file import DamagedLine, read_letters
from unlost.dlq.record.letter import encode
from unlost.dlq.record.query import moment
from unlost.dlq.record.trail import Act, whoami
from unlost.dlq.store.port import Unreachable
from unlost.listener.core.errors import Misconfigured, Permanent, Transient
from unlost.listener.pipeline.healing import HealPolicy
from unlost.listener.store.burials import burial_of
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.letter_rows import Listed
from unlost.listener.store.postgres.letters import LetterTable
from unlost.ops.kit.command import UsageProblem, command, say
from unlost.ops.kit.telemetry.counted import counted

AT_ONCE = 500


@contextlib.asynccontextmanager
async def _list(settings: LetterSettings) -> AsyncIterator[LetterTable]:
    if settings.database_url is None:
        raise UsageProblem("this works on the fleet's list: set DATABASE_URL")
    database = Database(settings.database_url.reveal(), group=settings.group, name="dlq", timeout=TIMEOUT)
    try:
        yield LetterTable(database, token="dlq")  # noqa: S106  in whose name burials are entered
    except (Transient, Permanent, Misconfigured) as error:
        raise Unreachable(f"the fleet's list cannot be used: {error}") from error
    finally:
        await database.close()


@command(
    LetterSettings,
    name="import",
    examples=("dlq import letters.jsonl",),
    params=[
        click.Argument(["file"], type=click.Path(path_type=Path)),
        json_option(),
    ],
)
def import_letters(settings: LetterSettings, *, file: Path, as_json: bool) -> int:
    """Add the letters of FILE to the fleet's list of GROUP, as written by export --as letters.

    Letters that are listed already stay as they are. FILE is not changed.
    """
    if not file.is_file():
        raise UsageProblem(f"there is no file {file}")
    damages: list[DamagedLine] = []

    async def work() -> int:
        found = read_letters(file)
        added = 0
        async with _list(settings) as table:
            while some := list(islice(found, AT_ONCE)):
                damages.extend(one for one in some if isinstance(one, DamagedLine))
                letters = [
                    msgspec.structs.replace(one.letter, group=settings.group)
                    for one in some
                    if not isinstance(one, DamagedLine)
                ]
                absent = await table.absent([one.letter_id for one in letters])
                new = [
                    Listed(one, encode(one), burial_of(one), HealPolicy().heal_after(one.reason, one.error_class))
                    for one in letters
                    if one.letter_id in absent
                ]
                for instance in dict.fromkeys(one.letter.instance for one in new):
                    await table.add(instance, [one for one in new if one.letter.instance == instance])
                added += len(new)
        warn_of(damages)
        if as_json:
            say_json({"added": added, "damaged": len(damages)})
        else:
            say(f"added {counted(added, 'letter')} to the fleet's list of group {settings.group}")
        about_it = f"{file} into the fleet's list (group {settings.group})"
        await noted(settings, (), Act(whoami(), "dlq", "imported", about_it, "", counted(added, "letter")))
        return 1 if damages else 0

    return run(work)


@command(
    LetterSettings,
    examples=("dlq retention --older-than 30d",),
    params=[
        click.Option(["--older-than"], required=True, help="Delete what was resolved before this time, or age: 30d."),
        json_option(),
    ],
)
def retention(settings: LetterSettings, *, older_than: str, as_json: bool) -> int:
    """Delete resolved letters from the fleet's list. Files are not changed: dlq compact does that."""
    try:
        before = moment(older_than, time.time())
    except ValueError as error:
        raise UsageProblem(f"--older-than: {error}") from None

    async def work() -> int:
        deleted = 0
        async with _list(settings) as table:
            while some := await table.prune(before):
                deleted += some
        if as_json:
            say_json({"deleted": deleted})
        else:
            say(f"deleted {counted(deleted, 'resolved letter')}")
        deleting = f"resolved before {older_than} ago in the fleet's list (group {settings.group})"
        await noted(settings, (), Act(whoami(), "dlq", "deleted", deleting, "", counted(deleted, "letter")))
        return 0

    return run(work)
