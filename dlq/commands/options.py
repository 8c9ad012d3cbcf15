"""The flags and the argument that several ``dlq`` commands share, and the selection made from them."""

import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol, get_args

import click
from pydantic import Field

from unlost.dlq.record.containment import alternatives
from unlost.dlq.record.file import FileError
from unlost.dlq.record.letter_state import Status
from unlost.dlq.record.paths import letter_files
from unlost.dlq.record.query import Selection, moment
from unlost.listener.app.group_name import GroupName
from unlost.listener.core.cause import Reason
from unlost.ops.kit.access.settings import PayloadSettings
from unlost.ops.kit.access.tls_settings import DatabaseTlsSettings
from unlost.ops.kit.command import SecretUrl, UsageProblem


class LetterOptions(Protocol):
    """The settings that say where letters are."""

    @property
    def letters(self) -> tuple[Path, ...]:
        """Several files, directories or patterns."""

    @property
    def dead_letter_file(self) -> Path:
        """One file."""


class LetterSettings(DatabaseTlsSettings, PayloadSettings):
    """Where the letters are: in the fleet's list of a group, or in files."""

    database_url: SecretUrl | None = Field(
        None, description="PostgreSQL with the fleet's list of letters, which is used if no FILE is given"
    )
    group: GroupName = Field("unlost", description="The group of listeners whose list it is")

    letters: tuple[Path, ...] = Field(
        (), description="Dead-letter files, directories or patterns, if no FILE is given and no list answers"
    )
    dead_letter_file: Path = Field(
        Path("failed_events.jsonl"), description="File of dead letters, if neither FILE nor LETTERS is given"
    )


def files_argument() -> click.Parameter:
    """FILES, which override the settings."""
    return click.Argument(["files"], nargs=-1, metavar="[FILE]...", type=click.Path(path_type=Path))


def json_option() -> click.Parameter:
    """The flag ``--json``."""
    return click.Option(["--json", "as_json"], is_flag=True, help="Print JSON.")


def unmasked_option() -> click.Parameter:
    """The flag ``--unmasked``."""
    return click.Option(["--unmasked"], is_flag=True, help="Show what REDACT masks. The trail records it.")


def filter_options() -> list[click.Parameter]:
    """The filters. Each may be given several times, except times and the fingerprint."""
    return [
        _several("--reason", "reasons", "Only letters of this reason.", get_args(Reason)),
        _several("--class", "error_classes", "Only letters of this class.", ("transient", "permanent")),
        _several("--type", "types", "Only events of this type."),
        _several("--error-type", "error_types", "Only failures of this type, such as TimeoutError."),
        click.Option(["--fingerprint"], default="", help="Only letters whose fingerprint begins with this."),
        click.Option(
            ["--since"], metavar="TIME", help="From this time on: 2026-01-31T12:00 (UTC), or an age such as 90m, 7d."
        ),
        click.Option(["--until"], metavar="TIME", help="Before this time or age."),
        _several("--id", "ids", "An event's id, or a letter's: whole, or its last 8 or more characters."),
        _several("--state", "statuses", "Only letters of this state.", get_args(Status)),
        click.Option(["--begins"], default="", help="Only letters whose id, or event's id, begins with this."),
        click.Option(["--text"], default="", help="Only letters whose error contains this, in any case."),
        click.Option(
            ["--payload"],
            default="",
            metavar="FIELD=VALUE|JSON",
            help="Only events whose payload contains this: customer.id=17, or an object in JSON.",
        ),
        _several("--assigned", "assigned", "Only letters to which this cause was assigned."),
    ]


def selection_of(values: dict[str, Any]) -> Selection:
    """Make a selection from the filters. Raises ``UsageProblem``."""
    now = time.time()
    times: dict[str, float | None] = {}
    problems = []
    for name in ("since", "until"):
        try:
            times[name] = moment(values[name], now) if values[name] else None
        except ValueError as error:
            problems.append(f"--{name}: {error}")
    try:
        payload = alternatives(values["payload"]) if values["payload"] else ()
    except ValueError as error:
        problems.append(f"--payload: {error}")
    if problems:
        raise UsageProblem(*problems)
    return Selection(
        reasons=frozenset(values["reasons"]),
        error_classes=frozenset(values["error_classes"]),
        types=frozenset(values["types"]),
        error_types=frozenset(values["error_types"]),
        fingerprint=values["fingerprint"],
        since=times["since"],
        until=times["until"],
        ids=tuple(values["ids"]),
        statuses=frozenset(values["statuses"]),
        begins=values["begins"],
        text=values["text"],
        payload=payload,
        assigned=frozenset(values["assigned"]),
        rejected=values.get("rejected", False),
    )


def files_of(settings: LetterOptions, files: Sequence[Path]) -> list[Path]:
    """The files to read, each once, with links resolved: those given, else LETTERS, else DEAD_LETTER_FILE."""
    named = files or settings.letters or (settings.dead_letter_file,)
    try:
        found = letter_files(named)
    except FileError as error:
        raise as_usage(error) from None
    for path in found:
        if not path.is_file():
            raise UsageProblem(f"{path} is no file")
    return found


def as_usage(error: FileError) -> UsageProblem:
    """Turn an error about a file into an error of the command."""
    return UsageProblem(str(error))


def _several(flag: str, name: str, about: str, choices: Iterable[str] = ()) -> click.Option:
    kind = click.Choice(list(choices)) if choices else None
    return click.Option([flag, name], multiple=True, type=kind, help=about)
