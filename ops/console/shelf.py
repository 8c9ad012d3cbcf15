"""All dead-letter files together: groups over all files, single letters, archiving and restoring.

Reading blocks, so it is called from threads. Groups are recounted only when a file has changed.
"""

import heapq
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from unlost.dlq.commands.changing import change
from unlost.dlq.commands.collector import Entry, as_values, book, groups
from unlost.dlq.commands.reporter import plan_values
from unlost.dlq.record.file import Damage, FileError
from unlost.dlq.record.letter import iso
from unlost.dlq.record.paths import letter_files
from unlost.dlq.record.query import Selection
from unlost.dlq.replay.plan import plan, snapshot
from unlost.ops.console.redact import Redactor
from unlost.ops.watch.letters import Kept

MOST_LISTED = 500


class Unknown(Exception):
    """No such file or letter."""


class Shelf:
    """The configured dead-letter files."""

    def __init__(self, named: Sequence[Path], redactor: Redactor) -> None:
        self._named = tuple(named)
        self._redactor = redactor
        self._groups = Kept(self.files, self._count)

    def groups(self) -> list[dict[str, Any]]:
        """Groups of letters that failed in the same way, over all files."""
        return self._groups.now()

    def letters(self, selection: Selection, limit: int) -> dict[str, Any]:
        """Return the latest of the selected letters, newest first, without their events."""
        most = max(1, min(limit, MOST_LISTED))
        latest: list[tuple[float, int, Path, Entry]] = []
        count = 0
        for path, entry in self._entries(selection):
            count += 1
            held = (entry.letter.last_at, count, path, entry)  # count is unique, so entries are never compared
            if len(latest) < most:
                heapq.heappush(latest, held)
            else:
                heapq.heappushpop(latest, held)
        found = [self._values(path, entry) for _, _, path, entry in sorted(latest, reverse=True)]
        for one in found:
            for name in ("event", "raw_text", "raw_base64", "attempts"):
                one.pop(name, None)
        return {"letters": found, "count": count}

    def letter(self, letter_id: str) -> dict[str, Any]:
        """Return one letter in full. Raises ``Unknown``."""
        for path, entry in self._entries(Selection(ids=(letter_id,))):
            if entry.letter.letter_id == letter_id:
                return self._values(path, entry)
        raise Unknown(f"no dead-letter file holds a letter {letter_id!r}; it may have been compacted away")

    def of_event(self, event_id: str) -> list[dict[str, Any]]:
        """Return all letters of an event."""
        chosen = Selection(ids=(event_id,))
        return [self._values(path, entry) for path, entry in self._entries(chosen) if entry.letter.event_id == event_id]

    def plans(self, selection: Selection, file: str | None, limit: int = 0) -> list[dict[str, Any]]:
        """Plan a replay for each file that holds any of the letters."""
        found = []
        for path in self.files(file):
            sums = plan([snapshot(path)], selection, limit)
            if sums.letters or sums.over:
                found.append({"file": str(path), **plan_values(sums)})
        return found

    def archive(self, selection: Selection, file: str | None, why: str) -> int:
        """Archive letters; return how many."""
        return sum(change(path, selection, "archived", why)[0] for path in self.files(file))

    def restore(self, selection: Selection, file: str | None) -> int:
        """Restore letters; return how many."""
        return sum(change(path, selection, "restored")[0] for path in self.files(file))

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

    def _entries(self, selection: Selection) -> Iterator[tuple[Path, Entry]]:
        damages: list[Damage] = []
        for path in self.files():
            for entry in book(path, selection, damages):
                yield path, entry

    def _shown(self, entry: Entry) -> Entry:
        return replace(entry, letter=self._redactor.letter(entry.letter))

    def _values(self, path: Path, entry: Entry) -> dict[str, Any]:
        values = as_values(self._shown(entry)) | {"file": str(path)}
        values["state"]["detail"] = self._detail(entry)
        return values

    def _detail(self, entry: Entry) -> str:
        """The detail of a letter's state, masked if it may quote the payload."""
        if entry.state.status in ("open", "resolved", "archived"):
            return entry.state.detail
        return self._redactor.about(entry.state.detail, entry.letter)

    def _count(self) -> list[dict[str, Any]]:
        by_state: dict[str, Counter[str]] = {}

        def counted() -> Iterator[Entry]:
            for _, entry in self._entries(Selection()):
                by_state.setdefault(entry.letter.fingerprint, Counter())[entry.state.status] += 1
                yield self._shown(entry)

        return [
            msgspec.to_builtins(one)
            | {"first_at": iso(one.first_at), "last_at": iso(one.last_at), "by_state": by_state[one.fingerprint]}
            for one in groups(counted())
        ]


def _found(named: Path) -> tuple[list[Path], str]:
    try:
        return letter_files([named]), ""
    except FileError as error:
        return [], str(error)
