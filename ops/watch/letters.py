"""Sums over dead-letter files, counted again only when a file or its states have changed."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from dlq.book import book
from dlq.file import Damage, FileTrouble
from dlq.selection import Selection
from dlq.sidecar import sidecar_path
from ops.watch.picture import Kind, LetterFile

REST = 10.0
"""A count that took a second is not repeated for so many seconds: a large file must not keep a core busy."""

MOST_KINDS = 5

Sums = TypeVar("Sums")
Stamp = tuple[tuple[int, int, int] | None, ...]


class Kept(Generic[Sums]):
    """What was counted over some files. ``now`` blocks, and may be called from any thread."""

    def __init__(self, files: Sequence[Path], count: Callable[[], Sums]) -> None:
        self._files = tuple(files)
        self._count = count
        self._turn = threading.Lock()
        self._known: tuple[Stamp, Sums] | None = None
        self._not_before = 0.0

    def now(self) -> Sums:
        """The sums, counted again if a file has changed."""
        with self._turn:
            stamp = tuple(_stamp(one) for path in self._files for one in (path, sidecar_path(path)))
            if self._known is not None and (self._known[0] == stamp or time.monotonic() < self._not_before):
                return self._known[1]
            started = time.monotonic()
            found = self._count()
            ended = time.monotonic()
            self._not_before = ended + REST * (ended - started)
            self._known = (stamp, found)
            return found


def letter_sums(path: Path) -> Kept[LetterFile]:
    """The sums of one file."""
    return Kept((path,), lambda: counted(path))


def counted(path: Path) -> LetterFile:
    """Count. A file that is not there yet holds nothing: a listener makes it with its first letter."""
    damages: list[Damage] = []
    by_state: Counter[str] = Counter()
    kinds: Counter[tuple[str, str, str, str]] = Counter()
    waiting = 0
    oldest: float | None = None
    try:
        if not path.exists():
            return LetterFile(path=str(path))
        for entry in book(path, Selection(), damages):
            by_state[entry.state.status] += 1
            if entry.state.waits:
                one = entry.letter
                kinds[one.fingerprint, one.reason, one.stage, one.error_type] += 1
                waiting += 1
                oldest = entry.letter.last_at if oldest is None else min(oldest, entry.letter.last_at)
    except (FileTrouble, OSError) as error:
        return LetterFile(path=str(path), error=str(error))
    return LetterFile(
        path=str(path), letters=by_state.total(), by_state=dict(by_state), waiting=waiting,
        oldest_waiting_at=oldest, damaged=len(damages),
        kinds=tuple(Kind(*kind, count) for kind, count in kinds.most_common(MOST_KINDS)),
    )  # fmt: skip


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        seen = path.stat()
    except OSError:
        return None
    return seen.st_ino, seen.st_size, seen.st_mtime_ns
