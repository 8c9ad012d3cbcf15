"""All dead-letter files together: groups over all files, single letters, archiving and restoring.

Reading blocks, so it is called from threads. Groups are recounted only when a file has changed.
"""

import heapq
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from unlost.dlq.commands.reporter import plan_values
from unlost.dlq.record.file import DamagedLine, FileError
from unlost.dlq.record.letter import Letter, iso
from unlost.dlq.record.letter_state import What
from unlost.dlq.record.paths import letter_files
from unlost.dlq.record.query import Selection, event_type
from unlost.dlq.store.coded import shown_entry
from unlost.dlq.store.entries import (
    Counted,
    LetterEntry,
    Statistics,
    as_values,
    current_entries,
    groups,
    outlines,
    redacted_entry,
    statistics,
)
from unlost.dlq.store.files import change, plan, snapshot
from unlost.listener.core.codec import EventCodec
from unlost.ops.kit.telemetry.redact import Redactor
from unlost.ops.watch.letters import CachedCount

MOST_LISTED = 500
LEFT_OUT = ("event", "edited", "raw_text", "raw_base64", "attempts")
"""Decides which letters a list leaves out."""
EVERYTHING = Selection()


class Unknown(Exception):
    """No such file or letter."""


class ConsoleFiles:
    """The configured dead-letter files."""

    def __init__(self, named: Sequence[Path], redactor: Redactor, codec: EventCodec | None = None) -> None:
        self._codec = codec
        self._named = tuple(named)
        self._redactor = redactor
        self._groups = CachedCount(self.files, self._count)
        self._recent: CachedCount[list[dict[str, Any]]] = CachedCount(
            self.files, lambda: list(self.letters(Selection(), MOST_LISTED)["letters"])
        )

    def groups(self, selection: Selection = EVERYTHING) -> list[dict[str, Any]]:
        """Groups of selected letters that failed in the same way, over all files."""
        return self._groups.now() if selection.everything else self._count(selection)

    def taken(self, selection: Selection) -> set[str]:
        """The ids of the selected letters."""
        return {entry.letter.letter_id for _, entry in self._entries(selection)}

    def recent(self) -> list[dict[str, Any]]:
        """The latest letters of all files, newest first, without their events."""
        return self._recent.now()

    def letters(self, selection: Selection, limit: int) -> dict[str, Any]:
        """Return the latest of the selected letters, newest first, without their events."""
        most = max(1, min(limit, MOST_LISTED))
        latest: list[tuple[float, int, Path, LetterEntry]] = []
        count = 0
        for path, entry in self._entries(selection):
            count += 1
            held = (entry.letter.last_at, count, path, entry)  # count is unique, so entries are never compared
            if len(latest) < most:
                heapq.heappush(latest, held)
            else:
                heapq.heappushpop(latest, held)
        found = [_values(path, entry, self._redactor) for _, _, path, entry in sorted(latest, reverse=True)]
        for one in found:
            for name in LEFT_OUT:
                one.pop(name, None)
        return {"letters": found, "count": count}

    def letter(self, letter_id: str, redactor: Redactor) -> dict[str, Any]:
        """Return one letter, masked by this redactor. Raises ``Unknown``."""
        for path, entry in self._entries(Selection(ids=(letter_id,))):
            if entry.letter.letter_id == letter_id:
                return _values(path, entry, redactor)
        raise Unknown(f"no dead-letter file holds a letter {letter_id!r}; it may have been compacted away")

    def of_event(self, event_id: str, redactor: Redactor) -> list[dict[str, Any]]:
        """Return all letters of an event, masked by this redactor."""
        found = self._entries(Selection(ids=(event_id,)))
        return [_values(path, entry, redactor) for path, entry in found if entry.letter.event_id == event_id]

    def plans(self, selection: Selection, file: str | None, limit: int = 0) -> list[dict[str, Any]]:
        """Plan a replay for each file that holds any of the letters."""
        found = []
        for path in self.files(file):
            sums = plan([snapshot(path)], selection, limit)
            if sums.letters or sums.over:
                found.append({"file": str(path), **plan_values(sums)})
        return found

    def statistics(self, selection: Selection, file: str | None) -> Statistics:
        """Counts of the selected letters."""
        return statistics(outlines(self.files(file), selection, []))

    def change(self, selection: Selection, file: str | None, what: What, why: str, by: str) -> int:
        """Archive or restore letters; return how many."""
        return sum(change(path, selection, what, why, by, []) for path in self.files(file))

    def files(self, name: str | None = None) -> list[Path]:
        """Return all files that are found, or only the one with this name. Raises ``Unknown``."""
        found = list(dict.fromkeys(path for named in self._named for path in _found(named)[0]))
        if name is None:
            return found
        wanted = Path(name).resolve()
        if wanted not in found:
            raise Unknown(f"{name} is none of this console's dead-letter files (LETTERS)")
        return [wanted]

    def errors(self) -> list[str]:
        """Why configured files or directories cannot be found or read."""
        return [why for named in self._named if (why := _found(named)[1])]

    def _entries(self, selection: Selection) -> Iterator[tuple[Path, LetterEntry]]:
        damages: list[DamagedLine] = []
        for path in self.files():
            for entry in current_entries(path, selection, damages):
                yield path, shown_entry(entry, self._codec)

    def _count(self, selection: Selection = EVERYTHING) -> list[dict[str, Any]]:
        by_state: dict[str, Counter[str]] = {}
        latest: dict[str, Letter] = {}

        def counted() -> Iterator[Counted]:
            for _, entry in self._entries(selection):
                by_state.setdefault(entry.letter.fingerprint, Counter())[entry.state.status] += 1
                latest[entry.letter.fingerprint] = entry.letter
                shown = redacted_entry(entry, self._redactor)
                yield shown.letter, shown.state

        return [
            msgspec.to_builtins(one)
            | {"first_at": iso(one.first_at), "last_at": iso(one.last_at), "by_state": by_state[one.fingerprint]}
            | kind_of(latest[one.fingerprint])
            for one in sorted(groups(counted()), key=lambda one: -one.waiting)
        ]


def _values(path: Path, entry: LetterEntry, redactor: Redactor) -> dict[str, Any]:
    return as_values(redacted_entry(entry, redactor)) | kind_of(entry.letter) | {"file": str(path)}


def kind_of(letter: Letter) -> dict[str, str | None]:
    """The type of the letter's event, and the route and handler that it failed in."""
    return {"type": event_type(letter), "route": letter.route, "handler": letter.handler}


def _found(named: Path) -> tuple[list[Path], str]:
    try:
        return letter_files([named]), ""
    except FileError as error:
        return [], str(error)
