"""``unlost journal migrate``: move a journal to another file, to PostgreSQL or to JetStream, and back."""

import time
from contextlib import closing
from pathlib import Path

import click
from pydantic import TypeAdapter, ValidationError

from unlost.dlq.record.trail import Act, note_beside, whoami
from unlost.ops.kit.command import PathOrUrl, Settings, UsageProblem, command
from unlost.ops.kit.telemetry.counted import counted
from unlost.producer.journal.address import JournalAddress, is_in_jetstream
from unlost.producer.journal.migrating import migrate
from unlost.producer.journal.moves import MovableJournal
from unlost.producer.journal.port import JournalError
from unlost.producer.journal.postgres.moving import MovableTables
from unlost.producer.journal.sqlite.moving import MovableFile

SHOWN_EVERY = 1.0
HERE = Path("journal")
"""A journal on a server has its trail beside this name, in the working directory."""
_address: TypeAdapter[PathOrUrl] = TypeAdapter(JournalAddress)


class NoSettings(Settings):
    """There are none: both journals are named."""


class Reporter:
    """Prints each step, and once in a while how far the copy is."""

    def __init__(self) -> None:
        self._at = 0.0

    def step(self, what: str) -> None:
        """See ``Progress``."""
        click.echo(what)

    def copied(self, number: int, newest: int) -> None:
        """See ``Progress``."""
        if number == newest or time.monotonic() - self._at >= SHOWN_EVERY:
            self._at = time.monotonic()
            click.echo(f"copied up to number {number:,} of {newest:,}")


@command(
    NoSettings,
    name="migrate",
    examples=[
        "unlost journal migrate /var/lib/unlost/journal.sqlite3 postgresql://unlost@db/journal",
        "unlost journal migrate postgresql://unlost@db/journal nats://nats:4222/journal",
    ],
    params=[
        click.Argument(["source"], metavar="FROM"),
        click.Argument(["target"], metavar="TO"),
        click.Option(
            ["--insist"], is_flag=True, help="Also if FROM has moved elsewhere before, and that journal is lost."
        ),
    ],
)
def migrate_journal(settings: NoSettings, source: str, target: str, insist: bool) -> int:  # noqa: ARG001
    """Move a journal FROM one place TO another: a file, postgresql://... or nats://.../STREAM.

    Stop the producers first, and start them on TO afterwards. If the command is killed, run it again.
    """
    begin, end = _read(source, "FROM"), _read(target, "TO")
    if begin.path is not None and not begin.path.is_file():
        raise UsageProblem(f"FROM: there is no journal {begin.path}")
    if _one(begin) == _one(end):
        raise UsageProblem("FROM and TO are the same journal")
    try:
        with closing(_movable(begin)) as old, closing(_movable(end)) as new:
            count = migrate(old, new, Reporter(), insist=insist)
            note_beside(begin.path or HERE, Act(whoami(), "unlost journal", "journal moved", new.where, "", "done"))
    except JournalError as error:
        raise UsageProblem(str(error)) from None
    click.echo(f"{counted(count, 'entry', 'entries')} copied; start the producers with JOURNAL={end}")
    return 0


def _read(text: str, name: str) -> PathOrUrl:
    try:
        return _address.validate_python(text)
    except ValidationError as error:
        raise UsageProblem(f"{name} {error.errors()[0]['msg'].removeprefix('Value error, ')}") from None


def _one(address: PathOrUrl) -> Path | str:
    return address.reveal() if address.path is None else address.path.resolve()


def _movable(address: PathOrUrl) -> MovableJournal:
    if address.path is not None:
        return MovableFile(address.path)
    if not is_in_jetstream(address):
        return MovableTables(address.reveal())
    try:
        from unlost.producer.journal.jetstream.moving import MovableStream  # needs a library of an extra
    except ModuleNotFoundError as error:
        raise UsageProblem(
            f"nats://… needs the library {error.name}, which is not installed: pip install 'unlost[nats]'"
        ) from None
    return MovableStream(address.reveal())
