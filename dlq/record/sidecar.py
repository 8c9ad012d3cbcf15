"""What became of each letter: an append-only file next to the letters, so that these are never rewritten.

Each line is one thing that happened, with a checksum, on disk before anybody relies on it. ``states`` folds
them. A torn or damaged line is skipped and takes no neighbour with it; the worst that its loss can do is
that an event is run again, which ends as "already stored". ``checked`` is of no letter: all letters that are resolved
before it were compared with PostgreSQL, after the loss that its detail names.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal
from zlib import crc32

import msgspec

from unlost.dlq.record.file import LineFile, read_lines
from unlost.dlq.record.fingerprint import plain
from unlost.dlq.record.letter import epoch_second, iso
from unlost.dlq.record.line import broken_seal, seal
from unlost.ops.kit.telemetry.mask import masked

MAX_RECORD_BYTES = 64 * 1024
MESSAGE_LIMIT = 2_000
What = Literal["resolved", "failed", "archived", "restored", "quarantined", "reopened", "checked"]
Status = Literal["open", "failed", "resolved", "archived", "quarantined"]


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that happened to a letter. ``detail`` says how it was stored, why archived, or what failed."""

    letter_id: str
    what: What
    at: float
    detail: str = ""
    error_type: str | None = None


class LetterState(msgspec.Struct, frozen=True):
    """What became of a letter. ``replays`` counts those that failed since it was last restored."""

    status: Status = "open"
    replays: int = 0
    at: float | None = None
    detail: str = ""
    error_type: str | None = None

    @property
    def waits(self) -> bool:
        """Whether a replay would take it."""
        return self.status in ("open", "failed")


OPEN = LetterState()


class _Line(msgspec.Struct, omit_defaults=True):
    v: Literal[1]
    letter_id: str
    what: What
    at: str
    detail: str = ""
    error_type: str | None = None


_lines = msgspec.json.Decoder(_Line)


class Sidecar:
    """Appends records. Any number of processes may hold one on the same letters."""

    def __init__(self, letters: Path) -> None:
        self._file = LineFile(sidecar_path(letters))

    def append(self, records: Sequence[Record]) -> None:
        """Put the records on disk, all or none; ``DiskFull`` or ``FileTrouble`` if that fails."""
        self._file.append([encode(record) for record in records])

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class Sidecars:
    """The states of letters of several files: what happened to a letter is written beside the file it was read from."""

    def __init__(self) -> None:
        self._open: dict[Path, Sidecar] = {}
        self._files_of: dict[str, set[Path]] = {}

    def expect(self, letter_id: str, file: Path) -> None:
        """A letter of this file is about to be run."""
        self._files_of.setdefault(letter_id, set()).add(file)

    def append(self, records: Sequence[Record]) -> None:
        """Put the records on disk, those of one file all or none; ``DiskFull`` or ``FileTrouble`` if that fails."""
        of_file: dict[Path, list[Record]] = {}
        for record in records:
            for file in self._files_of.get(record.letter_id, ()):
                of_file.setdefault(file, []).append(record)
        for file, some in of_file.items():
            self._open.setdefault(file, Sidecar(file)).append(some)
        for record in records:
            self._files_of.pop(record.letter_id, None)

    def close(self) -> None:
        """Close all files."""
        for one in self._open.values():
            one.close()


def sidecar_path(letters: Path) -> Path:
    """Where the states of a file's letters stand."""
    return letters.with_name(letters.name + ".state")


def states(letters: Path, *, part: int = 0, parts: int = 1) -> dict[str, LetterState]:
    """The state of each letter of the file that anything ever happened to, by its id; or of one part of these."""
    path = sidecar_path(letters)
    records = (record for _, record in read_records(path) if record) if path.exists() else ()
    return fold(one for one in records if parts == 1 or crc32(one.letter_id.encode()) % parts == part)


def last_checked(letters: Path) -> str:
    """The loss after which the resolved letters were compared with PostgreSQL last; empty if that never was."""
    path, loss = sidecar_path(letters), ""
    for _, record in read_records(path) if path.exists() else ():
        if record is not None and record.what == "checked":
            loss = record.detail
    return loss


def fold(records: Iterable[Record]) -> dict[str, LetterState]:
    """The states that a sequence of records leads to."""
    known: dict[str, LetterState] = {}
    for record in records:
        if record.letter_id:
            known[record.letter_id] = after(known.get(record.letter_id, OPEN), record)
    return known


def after(state: LetterState, record: Record) -> LetterState:
    """The state after one more record. What is resolved stays so, unless the event's row was lost."""
    if (state.status == "resolved") is not (record.what == "reopened"):
        return state
    return _STEPS[record.what](state, record)


def _with(status: Status, *, tries: int = 0) -> Callable[[LetterState, Record], LetterState]:
    return lambda state, record: LetterState(
        status, state.replays + tries, record.at, record.detail, record.error_type or state.error_type
    )


def _failed(state: LetterState, record: Record) -> LetterState:
    # Archived meanwhile by somebody: that decision stands, the count still goes up.
    status: Status = state.status if state.status in ("archived", "quarantined") else "failed"
    return _with(status, tries=1)(state, record)


_STEPS: dict[What, Callable[[LetterState, Record], LetterState]] = {
    "resolved": _with("resolved"),
    "failed": _failed,
    "archived": _with("archived"),
    "quarantined": _with("quarantined"),
    "restored": lambda _, record: LetterState("open", 0, record.at, record.detail),
    "reopened": lambda _, record: LetterState("open", 0, record.at, record.detail),
    "checked": lambda state, _: state,
}


def read_records(path: Path) -> Iterator[tuple[int, Record | None]]:
    """Each line's offset with its record, or with None where it is damaged."""
    for offset, line, length, _ in read_lines(path, max_line=MAX_RECORD_BYTES):
        yield offset, decode(line) if length <= MAX_RECORD_BYTES else None


def encode(record: Record) -> bytes:
    """The record on one line, without the newline."""
    line = _Line(
        1,
        plain(record.letter_id),
        record.what,
        iso(record.at),
        masked(plain(record.detail))[:MESSAGE_LIMIT],
        None if record.error_type is None else plain(record.error_type),
    )
    return seal(line)


def decode(line: bytes) -> Record | None:
    """The record of one line, or None where it is damaged."""
    if broken_seal(line):
        return None
    try:
        one = _lines.decode(line)
        return Record(one.letter_id, one.what, epoch_second(one.at), one.detail, one.error_type)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
