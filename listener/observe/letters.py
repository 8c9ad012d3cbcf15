"""The dead-letter file as metrics: how many letters wait, how old the oldest is, how much room is left.

Owns a tally of one instance's own file and of its sidecar, in which replays record the outcomes of letters. Each look
reads only the new part of both. A file that ``compact`` replaced is read again from the start. Promises to keep the
last figures if a look fails. Refuses to judge: unreadable lines are counted as damaged and skipped.
"""

import asyncio
import contextlib
import heapq
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from unlost.dlq.record.file import DamagedLine, FileError, Located, read_letters, read_lines
from unlost.dlq.record.letter_state import OPEN, LetterState, after
from unlost.dlq.record.sidecar import MAX_RECORD_BYTES, decode, sidecar_path

LOOK_EVERY_SECONDS = 5.0
SHOWN_FINGERPRINTS = 10
REASONS = ("exhausted", "rejected", "invalid", "conflict", "crash_loop", "overflow", "stopped", "deferred", "effect")
STATUSES = ("open", "failed", "resolved", "archived", "quarantined")
Inode = tuple[int, int]


class Noted(NamedTuple):
    """The remembered fields of a letter."""

    reason: str
    fingerprint: str
    at: float


class LettersTally:
    """Counts letters by their outcome. ``look`` reads what is new."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._letters: dict[str, Noted] = {}
        self._states: dict[str, LetterState] = {}
        self._ends = [0, 0]
        self._inodes: tuple[Inode | None, ...] = ()
        self.damaged = 0

    def look(self) -> bool:
        """Read what was added to the file and its sidecar; return whether anything was. Raises ``FileError``."""
        sidecar = sidecar_path(self._path)
        inodes = _inode(self._path), _inode(sidecar)
        before = (self._inodes, *self._ends)
        if inodes != self._inodes or _size(self._path) < self._ends[0]:
            self._letters, self._states, self._ends, self.damaged = {}, {}, [0, 0], 0
            self._inodes = inodes
        if inodes[0] is not None:
            self._read_letters()
        if inodes[1] is not None:
            self._read_sidecar(sidecar)
        return before != (self._inodes, *self._ends)

    def statuses(self) -> Counter[str]:
        """Return how many letters there are in each state."""
        return Counter(self._state(letter_id).status for letter_id in self._letters)

    def waiting(self) -> Counter[str]:
        """Return how many letters a replay would take, by reason."""
        return Counter(one.reason for one in self._that_wait())

    def groups(self) -> Counter[str]:
        """Return how many of them have the same failure, by fingerprint."""
        return Counter(one.fingerprint for one in self._that_wait())

    def oldest(self) -> float | None:
        """Return when the oldest waiting letter was written."""
        return min((one.at for one in self._that_wait()), default=None)

    def _that_wait(self) -> Iterator[Noted]:
        return (one for letter_id, one in self._letters.items() if self._state(letter_id).waits)

    def _state(self, letter_id: str) -> LetterState:
        return self._states.get(letter_id, OPEN)

    def _read_letters(self) -> None:
        size = _whole_lines(self._path, self._ends[0])
        for one in read_letters(self._path, start=self._ends[0], end=size):
            match one:
                case Located(letter=letter):
                    fingerprint = sys.intern(letter.fingerprint)
                    self._letters[letter.letter_id] = Noted(letter.reason, fingerprint, letter.last_at)
                case DamagedLine():
                    self.damaged += 1
        self._ends[0] = size

    def _read_sidecar(self, sidecar: Path) -> None:
        size = _whole_lines(sidecar, self._ends[1])
        for _, line, length, _ in read_lines(sidecar, start=self._ends[1], end=size, max_line=MAX_RECORD_BYTES):
            record = decode(line) if length <= MAX_RECORD_BYTES else None
            if record is not None:
                self._states[record.letter_id] = after(self._state(record.letter_id), record)
        self._ends[1] = size


class LargestGroups(Collector):
    """The failures with the most waiting letters, by fingerprint: at most ten, however many there are.

    A mapping is never changed, only replaced. So a scrape, which another thread may answer, sees one consistent look. A
    failure that is no longer among the largest has no series.
    """

    def __init__(self) -> None:
        self._shown: Mapping[str, int] = MappingProxyType({})

    def show(self, groups: Mapping[str, int]) -> None:
        """Show the largest. Equal ones are chosen by fingerprint, so that they do not come and go."""
        largest = heapq.nsmallest(SHOWN_FINGERPRINTS, groups.items(), key=lambda group: (-group[1], group[0]))
        self._shown = MappingProxyType(dict(largest))

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Answer a scrape."""
        family = GaugeMetricFamily(
            "unlost_dead_letters_unresolved_by_fingerprint",
            "Letters that a replay would take, of the ten failures (fingerprints) with the most letters",
            labels=("fingerprint",),
        )
        for fingerprint, letters in self._shown.items():
            family.add_metric((fingerprint,), letters)
        yield family


class LetterGauges:
    """Shows a tally to Prometheus. ``run()`` is a task that looks every few seconds, off the event loop."""

    def __init__(self, path: Path, registry: CollectorRegistry) -> None:
        self._path = path
        self._tally = LettersTally(path)
        self._oldest: float | None = None

        def gauge(name: str, about: str, *labels: str) -> Gauge:
            return Gauge(f"unlost_dead_letter{name}", about, labels, registry=registry)

        self._by_status = gauge("s", "Letters in the dead-letter file, by what became of them", "status")
        self._waiting = gauge("s_unresolved", "Letters that a replay would take, by reason", "reason")
        self._groups = gauge("s_unresolved_groups", "Different failures (fingerprints) among them")
        self._largest = LargestGroups()
        registry.register(self._largest)
        self._damaged = gauge("s_damaged", "Lines of the dead-letter file that are no letters")
        self._bytes = gauge("_file_bytes", "Size of the dead-letter file")
        self._free = gauge("_disk_free_bytes", "Room left on the dead-letter file's disk")
        gauge("s_oldest_unresolved_seconds", "Age of the oldest unresolved letter, 0 without one").set_function(
            self._age
        )
        self._show()

    async def run(self) -> None:
        """Poll until cancelled. A file that cannot be read now is read later; the writer reports errors of the disk."""
        while True:
            with contextlib.suppress(FileError, OSError):
                await asyncio.to_thread(self.look)
            await asyncio.sleep(LOOK_EVERY_SECONDS)

    def look(self) -> None:
        """Look once."""
        if self._tally.look():
            self._show()
        self._bytes.set(_size(self._path))
        room = os.statvfs(self._path.parent)
        self._free.set(room.f_bavail * room.f_frsize)

    def _show(self) -> None:
        statuses, waiting, groups = self._tally.statuses(), self._tally.waiting(), self._tally.groups()
        for status in STATUSES:
            self._by_status.labels(status).set(statuses[status])
        for reason in REASONS:
            self._waiting.labels(reason).set(waiting[reason])
        self._groups.set(len(groups))
        self._largest.show(groups)
        self._damaged.set(self._tally.damaged)
        self._oldest = self._tally.oldest()

    def _age(self) -> float:
        return 0.0 if self._oldest is None else max(0.0, time.time() - self._oldest)


def _inode(path: Path) -> Inode | None:
    try:
        there = path.stat()
    except FileNotFoundError:
        return None
    return there.st_dev, there.st_ino


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _whole_lines(path: Path, start: int) -> int:
    """Return the end of the last complete line. An unfinished line is read at the next look."""
    size = _size(path)
    with path.open("rb") as file:
        while size > start:
            begin = max(start, size - 65_536)
            file.seek(begin)
            cut = file.read(size - begin).rfind(b"\n")
            if cut >= 0:
                return begin + cut + 1
            size = begin
    return start
