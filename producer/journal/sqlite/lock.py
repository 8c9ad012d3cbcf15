"""A lock file beside the journal, so that only one producer writes it. The kernel frees it when the process ends."""

import fcntl
import os
from pathlib import Path

from unlost.producer.journal.port import JournalError
from unlost.producer.journal.sqlite.files import file_at, file_of, number_in

ATTEMPTS = 10
"""Each fails only if somebody removes the lock between two calls."""


class JournalLock:
    """Held from construction until ``release``. Raises ``JournalError`` if another producer holds it.

    The lock is found by the journal's name. So a journal with a second name, by a hard link, is refused.
    """

    def __init__(self, journal: Path) -> None:
        journal = journal.resolve()  # the same lock, whatever link leads to the journal
        self._path = journal.with_name(f"{journal.name}.lock")
        self._file = self._take(journal)
        self._locked = file_of(self._file)
        if journal.exists() and (names := journal.stat().st_nlink) > 1:
            os.close(self._file)
            raise JournalError(
                f"the journal {journal} has {names} names (hard links), so another producer could write it unnoticed; "
                "remove the other names, and use copies as backups"
            )
        os.truncate(self._file, 0)
        os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)

    def require(self) -> None:
        """Raise ``JournalError`` if another producer could have the journal: it can lock a new file at that path."""
        try:
            if number_in(self._path.stat()) == self._locked:
                return
        except FileNotFoundError:
            pass
        except OSError as error:
            raise JournalError(
                f"the lock {self._path} cannot be looked at ({error.strerror}), so another producer could write the "
                "same journal, and nothing is accepted until it can be"
            ) from error
        raise JournalError(
            f"the lock {self._path} was removed or replaced while the producer runs, so another producer can write "
            "the same journal, and nothing more is accepted; stop all producers of this journal, and start one"
        )

    def _take(self, journal: Path) -> int:
        for _ in range(ATTEMPTS):
            file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                # Not on the journal itself: closing any descriptor of that file would drop SQLite's own locks (POSIX).
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = _named(file)
                os.close(file)
                raise JournalError(
                    f"the journal {journal} is in use by another producer{holder}; "
                    "stop that one, or give this one a journal of its own (--journal)"
                ) from None
            if file_of(file) == file_at(self._path):
                return file
            os.close(file)  # removed between the two calls
        raise JournalError(
            f"the lock {self._path} cannot be held: this file system gives an open file another number than its name, "
            "or somebody removes the lock all the time; keep the journal on a local disk"
        )

    def release(self) -> None:
        """Free the lock. The file stays: removing it could remove the lock of the next producer."""
        os.close(self._file)


def _named(file: int) -> str:
    digits = os.pread(file, 20, 0).strip()
    return f" (process {int(digits)})" if digits.isdigit() else ""
