"""The state of each letter, in an append-only file beside the letters, which are therefore never rewritten.

Each line is one record of something that happened, with a checksum. It is on disk before anything depends on it.
``states`` folds the records. A torn or damaged line is skipped without harm to its neighbours. In the worst case its
loss makes an event run again, which ends as "already stored".

The fleet's list holds the same records. ``letter_state.py`` has what a record says, and the state that follows.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal
from zlib import crc32

import msgspec

from unlost.dlq.record.file import LineFile, read_lines
from unlost.dlq.record.fingerprint import plain
from unlost.dlq.record.letter import epoch_second, iso
from unlost.dlq.record.letter_state import Edit, LetterState, Record, What, fold
from unlost.dlq.record.line import broken_seal, seal

MAX_EDITED_BYTES = 4 * 1024 * 1024
"""The largest event that an edit may make."""
MAX_RECORD_BYTES = 2 * MAX_EDITED_BYTES
"""Room for a version that a codec has encoded, which makes it a third longer."""


class _Edit(msgspec.Struct):
    version: Annotated[int, msgspec.Meta(ge=2)]
    base: Annotated[int, msgspec.Meta(ge=1)]
    how: str
    event: msgspec.Raw


class _Line(msgspec.Struct, omit_defaults=True):
    v: Literal[1]
    letter_id: str
    what: What
    at: str
    detail: str = ""
    error_type: str | None = None
    by: str | None = None
    edit: _Edit | None = None
    followers: str | None = None


_lines = msgspec.json.Decoder(_Line)


class Sidecar:
    """Appends records. Any number of processes may append for the same letters."""

    def __init__(self, letters: Path) -> None:
        self._file = LineFile(sidecar_path(letters))

    def append(self, records: Sequence[Record]) -> None:
        """Write the records to disk, all or none. Raises ``DiskFull`` or ``FileError``."""
        self.append_lines([encode(record) for record in records])

    def append_lines(self, lines: Sequence[bytes]) -> None:
        """``append`` of records that are encoded."""
        self._file.append(lines)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class Sidecars:
    """Sidecars of several files. A record is written beside the file from which its letter was read."""

    def __init__(self) -> None:
        self._open: dict[Path, Sidecar] = {}
        self._files_of: dict[str, set[Path]] = {}

    def expect(self, letter_id: str, file: Path) -> None:
        """Record in memory that a letter of this file is about to be run."""
        self._files_of.setdefault(letter_id, set()).add(file)

    def append_lines(self, letter_ids: Sequence[str], lines: Sequence[bytes]) -> None:
        """Write encoded records to disk, per file all or none. ``letter_ids``: which letter each is about.

        Raises ``DiskFull`` or ``FileError``.
        """
        of_file: dict[Path, list[bytes]] = {}
        for letter_id, line in zip(letter_ids, lines, strict=True):
            for file in self._files_of.get(letter_id, ()):
                of_file.setdefault(file, []).append(line)
        for file, some in of_file.items():
            self._open.setdefault(file, Sidecar(file)).append_lines(some)
        for letter_id in letter_ids:
            self._files_of.pop(letter_id, None)

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
        record.detail,
        None if record.error_type is None else plain(record.error_type),
        plain(record.by) or None,
        _edit_line(record.edit),
        record.followers,
    )
    return seal(line)


def _edit_line(made: Edit | None) -> _Edit | None:
    return None if made is None else _Edit(made.version, made.base, plain(made.how), msgspec.Raw(made.event))


def decode(line: bytes) -> Record | None:
    """The record of one line, or None if it is damaged."""
    if broken_seal(line):
        return None
    try:
        one = _lines.decode(line)
        edit = one.edit
        made = None if edit is None else Edit(edit.version, edit.base, edit.how, bytes(edit.event))
        at = epoch_second(one.at)
        return Record(one.letter_id, one.what, at, one.detail, one.error_type, one.by or "", made, one.followers)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
