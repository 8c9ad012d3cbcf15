"""Reading dead-letter files for the books: what is unresolved, and what each event's letters say."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
from dlq.sidecar import states

from dlq.file import Damage, read_letters

# The producer accepted the event once; a second one with the same id and other content is no copy of it.
NO_COPY = frozenset({"conflict", "invalid"})


def unresolved_letters(files: Iterable[Path]) -> tuple[Counter[str], int]:
    """How many unresolved letters each event has, and how many lines could not be read."""
    letters: Counter[str] = Counter()
    damaged = 0
    for file in files:
        if not file.exists():
            continue
        known = states(file)
        for letter in read_letters(file):
            if isinstance(letter, Damage):
                damaged += 1
            elif letter.event_id and letter.reason not in NO_COPY and not is_over(known.get(letter.letter_id)):
                letters[letter.event_id] += 1
    return letters, damaged


def is_over(state: Any) -> bool:
    """Whether a letter's story has ended: its event is stored."""
    return str(getattr(state, "status", state)) == "resolved"


def letters_of(file: Path, event_id: str) -> list[dict[str, Any]]:
    """Every letter of one event in a file, each with what became of it."""
    known = states(file)
    return [
        {
            "file": str(file),
            "state": msgspec.to_builtins(known.get(letter.letter_id)),
            **msgspec.to_builtins(letter),
        }
        for letter in read_letters(file)
        if not isinstance(letter, Damage) and letter.event_id == event_id
    ]
