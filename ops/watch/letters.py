"""Sums over dead-letter files. They are recounted only when a file or its sidecar has changed."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from unlost.dlq.record.file import DamagedLine, FileError
from unlost.dlq.record.paths import is_several, letter_files
from unlost.dlq.record.query import Selection
from unlost.dlq.record.sidecar import sidecar_path
from unlost.dlq.store.entries import current_entries
from unlost.ops.watch.picture import FailureGroup, LetterFile

REST = 10.0
"""Seconds of pause for each second that a count took: a large file must not keep a core busy."""

MOST_KINDS = 5

Sums = TypeVar("Sums")
Stamp = tuple[tuple[int, int, int] | None, ...]


class CachedCount(Generic[Sums]):
    """A cached count over some files. ``now`` blocks; any thread may call it."""

    def __init__(self, files: Callable[[], Sequence[Path]], count: Callable[[], Sums]) -> None:
        self._files = files
        self._count = count
        self._turn = threading.Lock()
        self._known: tuple[Stamp, Sums] | None = None
        self._not_before = 0.0

    def now(self) -> Sums:
        """The sums, recounted if a file has changed."""
        with self._turn:
            stamp = tuple(_stamp(one) for path in self._files() for one in (path, sidecar_path(path)))
            if self._known is not None and (self._known[0] == stamp or time.monotonic() < self._not_before):
                return self._known[1]
            started = time.monotonic()
            found = self._count()
            ended = time.monotonic()
            self._not_before = ended + REST * (ended - started)
            self._known = (stamp, found)
            return found


class LetterFiles:
    """The sums of all named files; patterns and directories are expanded again each time."""

    def __init__(self, named: Sequence[Path]) -> None:
        self._named = tuple(named)
        self._kept: dict[Path, CachedCount[LetterFile]] = {}

    def now(self) -> list[LetterFile]:
        """Return the sums of each file. Blocks."""
        sums: dict[str, LetterFile] = {}
        for name in self._named:
            try:
                found = letter_files([name])
            except FileError as error:
                sums[str(name)] = LetterFile(path=str(name), error=str(error))
                continue
            for path in found:
                sums[str(path)] = self._kept.setdefault(path, _kept(path)).now()
            if not found and not is_several(name):
                sums[str(name)] = LetterFile(path=str(name))
        return list(sums.values())


def _kept(path: Path) -> CachedCount[LetterFile]:
    return CachedCount(lambda: (path,), lambda: counted(path))


def counted(path: Path) -> LetterFile:
    """Count the letters of one file."""
    damages: list[DamagedLine] = []
    by_state: Counter[str] = Counter()
    kinds: Counter[tuple[str, str, str, str]] = Counter()
    waiting = 0
    oldest: float | None = None
    try:
        for entry in current_entries(path, Selection(), damages):
            by_state[entry.state.status] += 1
            if entry.state.waits:
                one = entry.letter
                kinds[one.fingerprint, one.reason, one.stage, one.error_type] += 1
                waiting += 1
                oldest = entry.letter.last_at if oldest is None else min(oldest, entry.letter.last_at)
    except (FileError, OSError) as error:
        return LetterFile(path=str(path), error=str(error))
    return LetterFile(
        path=str(path), letters=by_state.total(), by_state=dict(by_state), waiting=waiting,
        oldest_waiting_at=oldest, damaged=len(damages),
        kinds=tuple(FailureGroup(*kind, count) for kind, count in kinds.most_common(MOST_KINDS)),
    )  # fmt: skip


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        seen = path.stat()
    except OSError:
        return None
    return seen.st_ino, seen.st_size, seen.st_mtime_ns
