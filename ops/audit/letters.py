"""Reads letters for the audit, in the fleet's list and in files: the unresolved ones, and all of one event."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from unlost.dlq.record.file import DamagedLine, read_letters
from unlost.dlq.record.letter import Letter
from unlost.dlq.record.letter_line import Damaged, decode
from unlost.dlq.record.letter_state import OPEN
from unlost.dlq.record.paths import letter_files
from unlost.dlq.record.sidecar import states
from unlost.listener.store.postgres.reports import Reports

AT_ONCE = 5_000


def unresolved_letters(named: Iterable[Path]) -> tuple[Counter[str], int]:
    """Count unresolved letters by event, and lines that could not be read.

    Raises ``FileError`` if a file cannot be read: otherwise its letters would look like missing events.
    """
    found, damaged = _unresolved(named)
    return Counter(found.values()), damaged


async def in_list_and(named: Iterable[Path], reports: Reports) -> tuple[Counter[str], int]:
    """``unresolved_letters`` of the fleet's list, and of letters in these files that are not in the list yet."""
    found, damaged = _unresolved(named)
    ids = list(found)
    for first in range(0, len(ids), AT_ONCE):
        for letter_id in await reports.listed_letters(ids[first : first + AT_ONCE]):
            del found[letter_id]
    return Counter((found | await reports.unresolved_letters()).values()), damaged


def _unresolved(named: Iterable[Path]) -> tuple[dict[str, str], int]:
    letters: dict[str, str] = {}
    damaged = 0
    for file in letter_files(named):
        known = states(file)
        for found in read_letters(file):
            if isinstance(found, DamagedLine):
                damaged += 1
                continue
            letter = found.letter
            resolved = known.get(letter.letter_id, OPEN).status == "resolved"
            if letter.event_id and _is_copy(letter) and not resolved:
                letters[letter.letter_id] = letter.event_id
    return letters, damaged


def _is_copy(letter: Letter) -> bool:
    """Whether a letter is of the event that was accepted, in place of its row.

    A letter with the same id but other content, or none, is not. The letter of an effect stands beside the row.
    """
    return letter.reason not in ("conflict", "effect") and (letter.reason != "invalid" or letter.event is not None)


def letters_of(named: Iterable[Path], event_id: str) -> list[dict[str, Any]]:
    """Return all letters of one event in these files, each with its state."""
    return [letter for file in letter_files(named) for letter in _letters_in(file, event_id)]


async def listed_of(reports: Reports, event_id: str) -> list[dict[str, Any]]:
    """Return all letters of one event in the fleet's list, each with its state and all that happened to it."""
    history = await reports.records_of(event_id)
    found = []
    for row in await reports.letters_of(event_id):
        letter_id = row.pop("letter_id")
        records = [one for one in history if one["letter_id"] == letter_id]
        try:
            values = _readable(decode(row.pop("line")))
        except Damaged as error:
            values = {"letter_id": letter_id, "unreadable": str(error)}
        found.append({"state": row, "history": records, **values})
    return found


def _letters_in(file: Path, event_id: str) -> list[dict[str, Any]]:
    known = states(file)
    return [
        {
            "file": str(file),
            "state": msgspec.to_builtins(known.get(found.letter.letter_id, OPEN)),
            **_readable(found.letter),
        }
        for found in read_letters(file)
        if not isinstance(found, DamagedLine) and found.letter.event_id == event_id
    ]


def _readable(letter: Letter) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(msgspec.structs.replace(letter, coded=None), builtin_types=(bytes,))
    texts = {name: value.decode(errors="replace") for name, value in fields.items() if isinstance(value, bytes)}
    return fields | texts
