"""``unlost erase SUBJECT``: destroy the key of a person or account, and give a receipt.

First everything that is left is counted, then the key is destroyed, then the trail and the receipt are written. The
subject's name stands in neither: both have the place of its key, which only the key file links to the name.
"""

import asyncio
import contextlib
import time
from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec
from pydantic import Field

from unlost.dlq.record.file import FileError
from unlost.dlq.record.paths import letter_files
from unlost.dlq.record.sidecar import sidecar_path
from unlost.dlq.record.trail import Act, note_beside, whoami
from unlost.listener.app.group_name import GroupName
from unlost.listener.core.errors import Misconfigured, Permanent, Transient
from unlost.listener.core.order_key import bounded
from unlost.listener.shipped import key_file
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.remains import Remains
from unlost.listener.store.postgres.trail import TableTrail
from unlost.ops.kit.access.settings import CodecSettings
from unlost.ops.kit.access.tls_settings import DatabaseTlsSettings
from unlost.ops.kit.command import PathOrUrl, SecretUrl, UsageProblem, command, say, say_json_text
from unlost.ops.upkeep.keys import locked, read_keys
from unlost.producer.journal.address import JournalAddress, is_in_jetstream
from unlost.producer.journal.port import JournalError
from unlost.producer.journal.postgres import remains as in_server
from unlost.producer.journal.sqlite import remains as in_file

SAID = "unreadable: the key was destroyed in this key file; copies of the file, if there are any, still hold it"

BESIDE = (
    "not erased, in plain text beside each of these: the event's id and type, times, its key of ORDER_BY, the host of "
    "an effect, the SHA-256 of the content and of an effect's queue. A digest cannot be turned back, but whoever "
    "guesses the whole content, byte by byte, can confirm the guess. Redis holds 8 bytes of the digest, for "
    "DEDUP_WINDOW after the event; masked, if REDIS_SECRET is set. Content in which its publisher put 16 random bytes "
    "cannot be guessed"
)


class EraseSettings(DatabaseTlsSettings, CodecSettings):
    """Where the keys are, and where encrypted content may be."""

    database_url: SecretUrl | None = Field(
        None, description="PostgreSQL, with the rows of the group; none: not looked at"
    )
    group: GroupName = Field("unlost", description="The group of listeners")
    letters: tuple[Path, ...] = Field((), description="Dead-letter files, directories or patterns to look at")
    journal: JournalAddress | None = Field(None, description="The producer's journal to look at")


class RemainingCount(msgspec.Struct, frozen=True):
    """How much is left in one place. ``plain``: rows of the subject from before CODEC, which this does not erase."""

    where: str
    kind: str
    count: int


class ErasureReceipt(msgspec.Struct, frozen=True):
    """The outcome of an erasure, and what is left. ``beside``: what an erasure never reaches."""

    receipt: str
    place: str
    at: str
    by: str
    why: str
    key_file: str
    key_file_before: str
    key_file_after: str
    keys: list[str]
    remains: list[RemainingCount]
    state: str
    beside: str
    plain: list[RemainingCount]
    not_looked_at: list[str]


@command(
    EraseSettings,
    name="erase",
    examples=[
        "unlost erase 4711 --why 'request of 2026-11-30' --yes > receipt.json",
        "unlost erase 4711 --letters failed_events.jsonl --journal journal.sqlite3 --yes",
    ],
    params=[
        click.Argument(["subject"]),
        click.Option(["--why"], default="", help="The reason, kept in the trail. Do not name the subject in it."),
        click.Option(["--yes"], is_flag=True, help="Destroy the key. Without it, only count what would be unreadable."),
    ],
)
def erase(settings: EraseSettings, subject: str, why: str, yes: bool) -> int:
    """Destroy the key of a person or account, and give a receipt of what stays unreadable.

    SUBJECT is the value at CODEC_SUBJECT. No further event of it becomes a row. This cannot be undone.
    Servers that use this key file notice within a second; replace copies of it on other machines yourself.

    Exit codes: 0 erased and everything counted; 1 something could not be looked at, or rows in plain text are left.
    """
    path = settings.codec_keys
    if path is None:
        raise UsageProblem("set --codec (CODEC) and --codec-keys (CODEC_KEYS): keys are destroyed in that file")
    if not subject:
        raise UsageProblem("SUBJECT is empty")
    with locked(path):
        before = read_keys(path)
        place = before.place_of(subject)
        remains, plain, unseen = _looked(settings, place, subject)
        after = key_file.erased_from(before, subject) if yes else before
        if yes:
            key_file.write(path, after)
    receipt = ErasureReceipt(
        "unlost erase" if yes else "unlost erase, dry run: nothing was destroyed",
        place, datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="seconds"), whoami(), why,
        str(path.resolve()), key_file.fingerprint(before), key_file.fingerprint(after), list(after.keys),
        remains, SAID if yes else "readable", BESIDE, plain, unseen,
    )  # fmt: skip
    if yes:
        _note(settings, path, receipt)
    say_json_text(msgspec.json.format(msgspec.json.encode(receipt), indent=2).decode())
    if not yes:
        say("nothing was destroyed; --yes does it", err=True)
    return 1 if unseen or any(one.count for one in plain) else 0


Looked = tuple[list[RemainingCount], list[RemainingCount], list[str]]


def _looked(settings: EraseSettings, place: str, subject: str) -> Looked:
    """Count what is left, by place; also return the places that could not be looked at."""
    remains: list[RemainingCount] = []
    plain: list[RemainingCount] = []
    unseen: list[str] = []
    mark = f'"sub":"{place}"'.encode()
    if settings.database_url is None:
        unseen.append("rows, letters and effects: DATABASE_URL is not set")
    else:
        try:
            asyncio.run(_in_tables(settings, settings.database_url, mark, subject, remains, plain))
        except (Transient, Permanent, Misconfigured) as error:
            unseen.append(f"rows, letters and effects: {error}")
    try:
        remains += [_in_file(one, mark) for named in settings.letters for one in _files(named)]
    except (FileError, OSError) as error:
        unseen.append(f"letters: {error}")
    if settings.journal is None:
        unseen.append("journal: JOURNAL is not set")
    else:
        try:
            count = _in_journal(settings.journal, mark)
            remains.append(RemainingCount(str(settings.journal), "entries of the journal", count))
        except JournalError as error:
            unseen.append(f"journal: {error}")
    return remains, plain, unseen


async def _in_tables(
    settings: EraseSettings,
    url: SecretUrl,
    mark: bytes,
    subject: str,
    remains: list[RemainingCount],
    plain: list[RemainingCount],
) -> None:
    database = Database(url.reveal(), group=settings.group, name="unlost erase", connections=1)
    where = f"group {settings.group} in PostgreSQL"
    try:
        tables = Remains(database)
        found = await tables.encoded(mark, mark.decode().split('"')[3])
        remains += [RemainingCount(where, kind, count) for kind, count in found.items()]
        if settings.codec_subject:
            plain.append(RemainingCount(where, "rows", await tables.plain(settings.codec_subject, bounded(subject))))
    finally:
        await database.close()


def _in_journal(journal: PathOrUrl, mark: bytes) -> int:
    if is_in_jetstream(journal):
        from unlost.producer.journal.jetstream import remains as in_stream  # needs a library of an extra

        return in_stream.entries_with(journal.reveal(), mark)
    return (
        in_server.entries_with(journal.reveal(), mark)
        if journal.path is None
        else in_file.entries_with(journal.path, mark)
    )


def _files(named: Path) -> list[Path]:
    return [one for path in letter_files([named]) for one in (path, sidecar_path(path)) if one.is_file()]


def _in_file(path: Path, mark: bytes) -> RemainingCount:
    with path.open("rb") as file:
        return RemainingCount(str(path), "lines", sum(mark in line for line in file))


def _note(settings: EraseSettings, path: Path, receipt: ErasureReceipt) -> None:
    """Write the act into the trail of the group, and beside the key file."""
    counts = ", ".join(f"{one.count} {one.kind} in {one.where}" for one in receipt.remains if one.count)
    result = f"{counts or 'nothing'} stays unreadable; key file {receipt.key_file_after}"
    act = Act(receipt.by, "unlost erase", "subject erased", f"place {receipt.place}", receipt.why, result)
    note_beside(path, act)
    if settings.database_url is not None:
        with contextlib.suppress(Transient, Permanent, Misconfigured):
            asyncio.run(_into_trail(settings, settings.database_url, act))


async def _into_trail(settings: EraseSettings, url: SecretUrl, act: Act) -> None:
    database = Database(url.reveal(), group=settings.group, name="unlost erase", connections=1)
    try:
        await TableTrail(database).append(act)
    finally:
        await database.close()
