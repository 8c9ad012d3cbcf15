"""The state of each letter, in an append-only file beside the letters, which are therefore never rewritten.

Each line is one record of something that happened, with a checksum. It is on disk before anyone relies on it.
``states`` folds the records. A torn or damaged line is skipped without harm to its neighbours. In the worst case its
loss makes an event run again, which ends as "already stored". A ``checked`` record belongs to no letter: all letters
resolved before it were compared with PostgreSQL after the loss that its detail names.
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
    """Something that happened to a letter. ``detail``: how it was stored, why it was archived, or what failed."""

    letter_id: str
    what: What
    at: float
    detail: str = ""
    error_type: str | None = None


class LetterState(msgspec.Struct, frozen=True):
    """The state of a letter. ``replays`` counts the failed ones since it was last restored."""

    status: Status = "open"
    replays: int = 0
    at: float | None = None
    detail: str = ""
    error_type: str | None = None

    @property
    def waits(self) -> bool:
        """Whether a replay would take the letter."""
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
    """Appends records. Any number of processes may append for the same letters."""

    def __init__(self, letters: Path) -> None:
        self._file = LineFile(sidecar_path(letters))

    def append(self, records: Sequence[Record]) -> None:
        """Put the records on disk, all or none. Raises ``DiskFull`` or ``FileError``."""
        self._file.append([encode(record) for record in records])

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class Sidecars:
    """Sidecars of several files. A record goes beside the file from which its letter was read."""

    def __init__(self) -> None:
        self._open: dict[Path, Sidecar] = {}
        self._files_of: dict[str, set[Path]] = {}

    def expect(self, letter_id: str, file: Path) -> None:
        """Note that a letter of this file is about to be run."""
        self._files_of.setdefault(letter_id, set()).add(file)

    def append(self, records: Sequence[Record]) -> None:
        """Put the records on disk, per file all or none. Raises ``DiskFull`` or ``FileError``."""
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
    """The path of the sidecar of a file of letters."""
    return letters.with_name(letters.name + ".state")


def states(letters: Path, *, part: int = 0, parts: int = 1) -> dict[str, LetterState]:
    """The states by letter id, of all letters with any record. With ``parts``, only one part of them."""
    path = sidecar_path(letters)
    records = (record for _, record in read_records(path) if record) if path.exists() else ()
    return fold(one for one in records if parts == 1 or crc32(one.letter_id.encode()) % parts == part)


def last_checked(letters: Path) -> str:
    """The loss after which the resolved letters were last compared with PostgreSQL. Empty if they never were."""
    path, loss = sidecar_path(letters), ""
    for _, record in read_records(path) if path.exists() else ():
        if record is not None and record.what == "checked":
            loss = record.detail
    return loss


def fold(records: Iterable[Record]) -> dict[str, LetterState]:
    """The states that result from a sequence of records."""
    known: dict[str, LetterState] = {}
    for record in records:
        if record.letter_id:
            known[record.letter_id] = after(known.get(record.letter_id, OPEN), record)
    return known


def after(state: LetterState, record: Record) -> LetterState:
    """The state after one more record. A resolved letter stays resolved, unless its row was lost (``reopened``)."""
    if (state.status == "resolved") is not (record.what == "reopened"):
        return state
    return _STEPS[record.what](state, record)


def _with(status: Status, *, tries: int = 0) -> Callable[[LetterState, Record], LetterState]:
    return lambda state, record: LetterState(
        status, state.replays + tries, record.at, record.detail, record.error_type or state.error_type
    )


def _failed(state: LetterState, record: Record) -> LetterState:
    # Someone archived it during the replay. That decision stands, but the failure counts.
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
    """Each line's offset and its record, or None if the line is damaged."""
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
    """The record of one line, or None if it is damaged."""
    if broken_seal(line):
        return None
    try:
        one = _lines.decode(line)
        return Record(one.letter_id, one.what, epoch_second(one.at), one.detail, one.error_type)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
