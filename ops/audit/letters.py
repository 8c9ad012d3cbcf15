"""Reads dead-letter files for the audit: unresolved letters, and all letters of one event."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from unlost.dlq.record.file import Damage, read_letters
from unlost.dlq.record.letter import Letter
from unlost.dlq.record.paths import letter_files
from unlost.dlq.record.sidecar import OPEN, states

# The producer accepted the event once. A second one with the same id but other content is not a copy of it.
NO_COPY = frozenset({"conflict", "invalid"})


def unresolved_letters(named: Iterable[Path]) -> tuple[Counter[str], int]:
    """Count unresolved letters by event, and lines that could not be read.

    Raises ``FileError`` if a file cannot be read: otherwise its letters would look like missing events.
    """
    letters: Counter[str] = Counter()
    damaged = 0
    for file in letter_files(named):
        known = states(file)
        for found in read_letters(file):
            if isinstance(found, Damage):
                damaged += 1
                continue
            letter = found.letter
            resolved = known.get(letter.letter_id, OPEN).status == "resolved"
            if letter.event_id and letter.reason not in NO_COPY and not resolved:
                letters[letter.event_id] += 1
    return letters, damaged


def letters_of(named: Iterable[Path], event_id: str) -> list[dict[str, Any]]:
    """Return all letters of one event in these files, each with its state."""
    return [letter for file in letter_files(named) for letter in _letters_in(file, event_id)]


def _letters_in(file: Path, event_id: str) -> list[dict[str, Any]]:
    known = states(file)
    return [
        {
            "file": str(file),
            "state": msgspec.to_builtins(known.get(found.letter.letter_id, OPEN)),
            **_readable(found.letter),
        }
        for found in read_letters(file)
        if not isinstance(found, Damage) and found.letter.event_id == event_id
    ]


def _readable(letter: Letter) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(letter, builtin_types=(bytes,))
    texts = {name: value.decode(errors="replace") for name, value in fields.items() if isinstance(value, bytes)}
    return fields | texts
