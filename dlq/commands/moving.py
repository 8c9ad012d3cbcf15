"""The commands that move letters between systems, export and import; and retention, which deletes resolved letters.

The versions of letters go with them: beside an exported file, as beside every file of letters, in ``FILE.state``.
"""

import contextlib
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import click
import msgspec

from unlost.dlq.commands.masking import redactor_of
from unlost.dlq.commands.options import (
    LetterSettings,
    files_argument,
    filter_options,
    json_option,
    selection_of,
    unmasked_option,
)
from unlost.dlq.commands.render import say_json, warn_of
from unlost.dlq.commands.store import TIMEOUT, as_kept, opened, run
from unlost.dlq.commands.trail import noted
from unlost.dlq.record.file import DamagedLine, read_letters
from unlost.dlq.record.letter import Letter
from unlost.dlq.record.letter_line import encode
from unlost.dlq.record.letter_state import Record
from unlost.dlq.record.query import Selection, moment
from unlost.dlq.record.sidecar import Sidecar, sidecar_path
from unlost.dlq.record.trail import Act, whoami
from unlost.dlq.record.versions import EveryVersion
from unlost.dlq.store.coded import DecodedLetters
from unlost.dlq.store.entries import LetterEntry
from unlost.dlq.store.files import FileLetters
from unlost.dlq.store.port import LetterStore, Unreachable
from unlost.listener.core.errors import Misconfigured, Permanent, Transient
from unlost.listener.core.shard import Shard
from unlost.listener.pipeline.healing import HealPolicy
from unlost.listener.store.burials import burial_of
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.letter_rows import Listed
from unlost.listener.store.postgres.letters import LetterTable
from unlost.ops.kit.command import UsageProblem, command, say
from unlost.ops.kit.telemetry.counted import counted
from unlost.ops.kit.telemetry.printable import printable_json

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
    examples=(
        "dlq export --state open > events.ndjson",
        "dlq export a.jsonl --as letters --reason conflict --output conflicts.jsonl",
    ),
    params=[
        files_argument(), *filter_options(), json_option(), unmasked_option(),
        click.Option(["--as", "kind"], type=click.Choice(["events", "letters"]), default="events", show_default=True,
                     help="Events as NDJSON, or whole letters."),
        click.Option(["--output"], type=click.File("wb"), default="-", help="Output file; - is standard output."),
    ],
)  # fmt: skip
def export(
    settings: LetterSettings,
    *,
    files: tuple[Path, ...],
    as_json: bool,
    kind: str,
    output: BinaryIO,
    unmasked: bool,
    **filters: Any,
) -> int:
    """Write the events of letters, one per line, exactly as their publishers wrote them (always JSON).

    Whole letters keep the versions that edits made: --output FILE writes these into FILE.state. On standard output
    there is no room for versions: exit code 1 if there are any. FILE may not be one that is read, nor have states.

    With REDACT, this needs --unmasked: a masked event is another event, which nobody should publish.
    """
    del as_json  # both forms are JSON already
    selection = selection_of(filters)
    if settings.redactor().masks and not unmasked:
        what = "what CODEC encrypts is not shown" if settings.codec else f"REDACT masks {', '.join(settings.redact)}"
        raise UsageProblem(
            f"{what}, but an export holds whole events; --unmasked writes them all the same, and the trail records it"
        )

    async def work() -> int:
        # Whole letters stay encoded: their file is as private as the one that they come from.
        async with (as_kept if kind == "letters" else opened)(settings, files) as store:
            _refuse_loss(output, store)
            await redactor_of(settings, files, store, selection, unmasked="dlq export")
            counts = await (_write_letters if kind == "letters" else _write_events)(store, selection, output)
            output.flush()
            warn_of(store.damages)
        say(f"exported {counts.written:,} {kind}{counts.left_out}", err=True)
        if counts.lost:
            say(
                f"error: the versions of {counts.lost:,} edited letters are left out; --output FILE keeps them",
                err=True,
            )
            return 1
        return 0

    return run(work)


class _Written(NamedTuple):
    """The outcome of an export. ``left_out``: a sentence on gaps; ``lost``: edited letters without their versions."""

    written: int
    left_out: str = ""
    lost: int = 0


async def _write_letters(store: LetterStore, selection: Selection, output: BinaryIO) -> _Written:
    written = edited = 0
    versions = _Versions(output)
    async for entries in store.each(selection):
        for entry in entries:
            versions.begin()
            output.write(_for(output, encode(entry.letter)) + b"\n")
        written += len(entries)
        later = _edited(entries)
        edited += len(later)
        if later:
            versions.write(await store.history(later))
    versions.begin()
    return _Written(written, lost=0 if versions.are_kept else edited)


async def _write_events(store: LetterStore, selection: Selection, output: BinaryIO) -> _Written:
    written = without = edited = 0
    async for entries in store.each(selection):
        for line in [_plain_event(entry.letter) for entry in entries]:
            if line is None:
                without += 1
            else:
                output.write(_for(output, line) + b"\n")
                written += 1
        edited += len(_edited(entries))
    left_out = f"; {without:,} hold no valid event, or an encrypted one: --as letters writes them" if without else ""
    left_out += f"; {edited:,} were edited since, --as letters keeps their versions" if edited else ""
    return _Written(written, left_out)


def _edited(entries: Sequence[LetterEntry]) -> list[str]:
    return [one.letter.letter_id for one in entries if one.state.version > 1]


def _plain_event(letter: Letter) -> bytes | None:
    """The event of a letter, if it is one and could be decoded."""
    return letter.event if letter.coded is None else None


class _Versions:
    """The versions of exported letters, beside the file of letters. On standard output they have no place."""

    def __init__(self, output: BinaryIO) -> None:
        self._path = _path_of(output)
        self._has_begun = False

    @property
    def are_kept(self) -> bool:
        """Whether they have a place."""
        return self._path is not None

    def begin(self) -> None:
        """Before the output is opened: delete the versions of one that is gone."""
        if self._path is not None and not self._has_begun:
            self._has_begun = True
            sidecar_path(self._path).unlink(missing_ok=True)
            self._sidecar = Sidecar(self._path)

    def write(self, history: Mapping[str, Sequence[Record]]) -> None:
        """Write the edits in these histories."""
        if self.are_kept:
            self._sidecar.append([one for some in history.values() for one in some if one.what == "edited"])


def _path_of(output: BinaryIO) -> Path | None:
    """The file that is written. None: standard output."""
    name = getattr(output, "name", "-")
    return Path(name) if isinstance(name, str) and name not in ("-", "<stdout>") else None


def _refuse_loss(output: BinaryIO, store: LetterStore) -> None:
    """Refuse an output in which letters or their states would be lost. It is opened with the first write."""
    if (path := _path_of(output)) is None:
        return
    kept = store.kept if isinstance(store, DecodedLetters) else store
    inputs = kept.paths if isinstance(kept, FileLetters) else ()
    if path.resolve() in {*inputs, *map(sidecar_path, inputs)}:
        raise UsageProblem(f"--output {path} is read by this export: name another file")
    if path.exists() and (state := sidecar_path(path)).exists():
        raise UsageProblem(f"--output {path} holds letters whose states are in {state}: name another file")


def _for(output: BinaryIO, line: bytes) -> bytes:
    """The line as its publisher wrote it; on a terminal with control characters escaped."""
    return printable_json(line.decode(errors="backslashreplace")).encode() if output.isatty() else line


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
    """Add the letters of FILE to the fleet's list of GROUP, as written by export --as letters, with their versions.

    Letters that are listed already stay as they are. FILE is not changed. A shard takes letters of its own events, so
    the same FILE is imported into each shard.
    """
    if not file.is_file():
        raise UsageProblem(f"there is no file {file}")
    damages: list[DamagedLine] = []

    async def work() -> int:
        found, versions, shard = read_letters(file), EveryVersion(file), Shard.of_group(settings.group)
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
                    Listed(one, encode(one), burial, HealPolicy().heal_after(one.reason, one.error_class))
                    for one, burial in zip(letters, map(burial_of, letters), strict=True)
                    if one.letter_id in absent
                    and (shard is None or shard.has(burial.claim_id if burial else one.letter_id))
                ]
                for instance in dict.fromkeys(one.letter.instance for one in new):
                    some_of_it = [one for one in new if one.letter.instance == instance]
                    edits = versions.of(one.letter.letter_id for one in some_of_it)
                    await table.add(instance, some_of_it, edits)
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
