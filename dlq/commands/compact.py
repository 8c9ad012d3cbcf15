"""Rewrites a dead-letter file without resolved letters. Nothing else rewrites it.

Kept lines are copied byte for byte to a new file. The new file is on disk before it replaces the old one, so after an
interruption either the old or the new file is complete. Listeners keep appending: only the last step holds the lock
that their appends take, and it copies what they added meanwhile. The letters are rewritten first and the sidecar
second. An interruption in between leaves states without letters, never letters without their state.
"""

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import BinaryIO

from unlost.dlq.record.file import (
    MAX_LINE_BYTES,
    FileError,
    Located,
    file_errors,
    is_current,
    read_letters,
    read_lines,
    settled_size,
    sync_directory,
)
from unlost.dlq.record.letter_line import Damaged, decode
from unlost.dlq.record.sidecar import MAX_RECORD_BYTES, sidecar_path, states
from unlost.dlq.record.sidecar import decode as decode_record

CHUNK = 1024 * 1024
Keep = Callable[[int, bytes, int], bool]
"""Whether to keep a line, given its offset, bytes and length."""


@dataclass(slots=True)
class Compacted:
    """The letters that a compaction kept and dropped."""

    kept: int = 0
    dropped: int = 0
    damaged_kept: int = 0
    damaged_dropped: int = 0
    bytes_before: int = 0
    bytes_after: int = 0


def compact(path: Path, *, drop_archived: bool = False, drop_damaged: bool = False) -> Compacted:
    """Drop resolved letters, and on request archived letters and damaged lines."""
    over = {"resolved", "archived"} if drop_archived else {"resolved"}
    known = states(path)
    sums = Compacted(bytes_before=path.stat().st_size)

    def keep(offset: int, line: bytes, length: int) -> bool:  # noqa: ARG001 - the shape that a rewrite calls
        try:
            letter = decode(line) if length <= MAX_LINE_BYTES else None
        except Damaged:
            letter = None
        if letter is None:
            sums.damaged_dropped += drop_damaged
            sums.damaged_kept += not drop_damaged
            return not drop_damaged
        state = known.get(letter.letter_id)
        kept = state is None or state.status not in over
        sums.kept += kept
        sums.dropped += not kept
        return kept

    rewrite(path, keep, max_line=MAX_LINE_BYTES)
    sums.bytes_after = path.stat().st_size
    _compact_sidecar(path)
    return sums


def total(every: Iterable[Compacted]) -> Compacted:
    """The sums over several files."""
    return Compacted(*map(sum, zip(*map(astuple, every), strict=True)))


def _compact_sidecar(letters: Path) -> None:
    """Drop states whose letters are gone. States that were added after the letters were read stay."""
    sidecar = sidecar_path(letters)
    if not sidecar.exists():
        return
    seen_until = settled_size(sidecar)
    present = {one.letter.letter_id for one in read_letters(letters) if isinstance(one, Located)}

    def keep(offset: int, line: bytes, length: int) -> bool:
        record = decode_record(line) if length <= MAX_RECORD_BYTES else None
        if record is None or record.what == "shipped":  # it refers to offsets in the old files
            return False
        return offset >= seen_until or not record.letter_id or record.letter_id in present

    rewrite(sidecar, keep, max_line=MAX_RECORD_BYTES)


def rewrite(path: Path, keep: Keep, *, max_line: int) -> None:
    """Replace a file of lines by one with only the lines to keep, without losing a concurrent append."""
    target = path.with_name(path.name + ".compacting")
    with file_errors(path, "compact"):
        # A failed append truncates the file to its previous size, which is at least this one.
        settled = settled_size(path)
        with path.open("rb") as source, _new(target, source) as copy:
            _copy_lines(path, source, copy, keep, max_line, 0, settled)
            os.fsync(copy.fileno())
            with _locked(path) as current:
                _copy_lines(path, current, copy, keep, max_line, settled, None)
                os.fsync(copy.fileno())
                target.replace(path)
                sync_directory(path)


def _copy_lines(
    path: Path, source: BinaryIO, copy: BinaryIO, keep: Keep, max_line: int, start: int, end: int | None
) -> None:
    for offset, line, length, _ in read_lines(path, start=start, end=end, max_line=max_line):
        if keep(offset, line, length):
            source.seek(offset)
            left = length
            while left:
                chunk = source.read(min(left, CHUNK))
                copy.write(chunk)
                left -= len(chunk)
            copy.write(b"\n")
    copy.flush()


@contextlib.contextmanager
def _new(target: Path, like: BinaryIO) -> Iterator[BinaryIO]:
    """Create an empty file with the owner and mode of ``like``, so that the listener can still write it."""
    old = os.fstat(like.fileno())
    target.unlink(missing_ok=True)
    fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as copy:
        new = os.fstat(fd)
        if (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid):
            try:
                os.fchown(fd, old.st_uid, old.st_gid)
            except PermissionError:
                target.unlink()
                raise FileError(
                    "the file belongs to another user, who could not write its replacement; "
                    "run compact as that user or as root"
                ) from None
        os.fchmod(fd, old.st_mode & 0o7777)
        yield copy


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[BinaryIO]:
    """Open the file that is at the path now, and lock it against appends."""
    while True:
        with path.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if is_current(file.fileno(), path):
                yield file
                return
