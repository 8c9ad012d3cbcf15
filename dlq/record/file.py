"""The dead-letter file: one instance appends to it, and anyone can read it, even if its end is torn.

An append is one write and one fsync under a lock on the file. A failed append leaves nothing behind. A torn last line
is ended with a newline before the next append. The lock also keeps appends and ``compact`` apart. If ``compact``
replaced the file, or someone removed it, the next append notices and opens the file again. A second writer on the same
path is refused at start.
"""

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, TypeVar

import msgspec

from unlost.dlq.record.letter import Letter
from unlost.dlq.record.letter_line import Damaged, decode, encode
from unlost.dlq.record.outline import Outline, outline
from unlost.listener.core.errors import UnlostError

T = TypeVar("T")
MAX_LINE_BYTES = 512 * 1024 * 1024  # twice the largest allowed event: room for its attempts and base64
SHOWN_OF_DAMAGE = 4096
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class FileError(UnlostError):
    """The file cannot be read or written. The text says which file, why, and what to do."""


class DiskFull(FileError):
    """The disk is full. Nothing of this append is in the file; try again later."""


class Located(msgspec.Struct, frozen=True):
    """A letter and the offset of its line. ``length`` excludes the newline."""

    offset: int
    letter: Letter
    length: int


class DamagedLine(msgspec.Struct, frozen=True):
    """A line that is no letter. ``line`` holds its beginning."""

    file: Path
    offset: int
    length: int
    reason: str
    line: bytes


def lock_of_writer(path: Path) -> Path:
    """The lock file of the writer. It exists from that listener's first start on."""
    return path.with_name(path.name + ".writer")


class DeadLetterFile:
    """The file of one instance. It is created with mode 0600 when the first letter is written."""

    def __init__(self, path: Path) -> None:
        self._path = Path(path)
        self._lines = LineFile(self._path)
        self._guard = Guard(lock_of_writer(self._path))
        if not self._guard.take():
            raise FileError(
                f"{self._path} is another running instance's dead-letter file ({self._guard.holder()}); "
                "give each instance a DEAD_LETTER_FILE of its own"
            )
        try:
            self._check_writable()
        except FileError:
            self._guard.release()
            raise

    def append(self, letters: Sequence[Letter]) -> None:
        """Write the letters to disk, all or none. Raises ``DiskFull`` or ``FileError``."""
        self._lines.append([encode(letter) for letter in letters])

    def _check_writable(self) -> None:
        """Check at start, not at the first letter. If there is no file yet, the lock file shows that one can be
        created."""
        with file_errors(self._path, "write"), contextlib.suppress(FileNotFoundError):
            fd = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK)
            regular = stat.S_ISREG(os.fstat(fd).st_mode)
            os.close(fd)
            if not regular:
                raise OSError(errno.EINVAL, "it is no ordinary file")

    def close(self) -> None:
        """Close the file and free it for other writers."""
        self._lines.close()
        self._guard.release()


class Guard:
    """An exclusive lock on a separate file, which names its holder. The kernel frees it when the holder ends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd: int | None = None

    def take(self, about: str = "") -> bool:
        """Take the lock if it is free. ``about`` describes this holder to others."""
        with file_errors(self._path, "lock"):
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(fd)
                return False
            self._fd = fd
            holder = (about or f"pid {os.getpid()} on {os.uname().nodename}").encode()
            os.pwrite(fd, holder, 0)
            os.ftruncate(fd, len(holder))
        return True

    def holder(self) -> str:
        """How the holder described itself."""
        with contextlib.suppress(OSError, UnicodeDecodeError):
            return self._path.read_text() or "holder unknown"
        return "holder unknown"

    def release(self) -> None:
        """Free the lock. The file stays: if it were removed, two processes could hold the lock."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def replay_guard(path: Path) -> Guard:
    """The lock for replaying, compacting or healing the letters of this file."""
    return Guard(path.with_name(path.name + ".replay"))


class LineFile:
    """Appends lines durably, all or none. Any number of processes may append, also while the file is replaced."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd: int | None = None

    def append(self, lines: Sequence[bytes]) -> None:
        """Append the lines with one write and one fsync."""
        if not lines:
            return
        with file_errors(self._path, "write"):
            fd = self._locked()
            try:
                _append(fd, b"".join(line + b"\n" for line in lines))
            finally:
                fcntl.flock(fd, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the file."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _locked(self) -> int:
        """The file that is at the path now, locked."""
        while True:
            fd = self._fd = _open(self._path) if self._fd is None else self._fd
            fcntl.flock(fd, fcntl.LOCK_EX)
            if is_current(fd, self._path):
                return fd
            self.close()


def is_current(fd: int, path: Path) -> bool:
    """Whether the path still leads to the open file."""
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    here = os.fstat(fd)
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)


def read_letters(
    path: Path, *, start: int = 0, end: int | None = None, max_line: int = MAX_LINE_BYTES
) -> Iterator[Located | DamagedLine]:
    """Every letter and every damaged line between two offsets, in order. Holds at most one line in memory."""
    for offset, line, length, ended in read_lines(path, start=start, end=end, max_line=max_line):
        try:
            yield Located(offset, _whole(decode, line, length, max_line), length)
        except Damaged as error:
            yield _damaged(path, offset, line, length, error, ended=ended)


def read_outlines(path: Path, *, end: int | None = None) -> Iterator[Outline | DamagedLine]:
    """The outline of every letter, and every damaged line, up to an offset, in order."""
    for offset, line, length, ended in read_lines(path, end=end):
        try:
            yield _whole(outline, line, length, MAX_LINE_BYTES)
        except Damaged as error:
            yield _damaged(path, offset, line, length, error, ended=ended)


def _whole(read: Callable[[bytes], T], line: bytes, length: int, max_line: int) -> T:
    if length > max_line:
        raise Damaged(f"the line has {length:,} bytes, and {max_line:,} are allowed")
    return read(line)


def _damaged(path: Path, offset: int, line: bytes, length: int, error: Damaged, *, ended: bool) -> DamagedLine:
    whole = ended or length > len(line)
    torn = "" if whole else " (the last line has no end: its writer was cut off, or is writing now)"
    return DamagedLine(Path(path), offset, length, f"{error}{torn}", line[:SHOWN_OF_DAMAGE])


def read_lines(
    path: Path, *, start: int = 0, end: int | None = None, max_line: int = MAX_LINE_BYTES
) -> Iterator[tuple[int, bytes, int, bool]]:
    """Each non-empty line: offset, bytes (the beginning, if over ``max_line``), length, whether it ended."""
    with file_errors(path, "read"), Path(path).open("rb") as file:
        offset = file.seek(start)
        while end is None or offset < end:
            line = file.readline(max_line + 1)
            if not line:
                return
            ended = line.endswith(b"\n")
            length = len(line) - ended
            if not ended and length > max_line:
                rest, ended = _skip_line(file)
                length += rest
            if length:
                yield offset, line.removesuffix(b"\n"), length, ended
            offset += length + ended


def settled_size(path: Path) -> int:
    """The file's size while no append is in progress. Every letter before that offset is complete."""
    with file_errors(path, "read"), Path(path).open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        return os.fstat(file.fileno()).st_size


def sync_directory(path: Path) -> None:
    """Make the creation or renaming of a file in its directory durable."""
    fd = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextlib.contextmanager
def file_errors(path: Path, what: str) -> Iterator[None]:
    """Translate errors of the system into ``FileError``."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise DiskFull(f"cannot {what} {path}: there is no room ({error.strerror}); free some space") from error
        hint = "; create its directory" if error.errno == errno.ENOENT and not Path(path).parent.exists() else ""
        raise FileError(f"cannot {what} {path}: {error.strerror or error}{hint}") from error


def _open(path: Path) -> int:
    flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC
    try:
        return os.open(path, flags)
    except FileNotFoundError:
        fd = os.open(path, flags | os.O_CREAT, 0o600)
        sync_directory(path)
        return fd


def _append(fd: int, data: bytes) -> None:
    size = os.fstat(fd).st_size
    if size and os.pread(fd, 1, size - 1) != b"\n":
        data = b"\n" + data
    try:
        left = memoryview(data)
        while left:
            left = left[os.write(fd, left) :]
        os.fsync(fd)
    except BaseException:
        # Half a line would join the next one. If the truncation fails too, the next append begins with a newline.
        # In both cases the caller learns that nothing was written.
        with contextlib.suppress(OSError):
            os.ftruncate(fd, size)
        raise


def _skip_line(file: BinaryIO) -> tuple[int, bool]:
    length = 0
    while chunk := file.readline(1024 * 1024):
        length += len(chunk)
        if chunk.endswith(b"\n"):
            return length - 1, True
    return length, False
