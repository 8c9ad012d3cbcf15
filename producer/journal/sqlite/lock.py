"""One producer writes to a journal: a lock on a file beside it, held until the process ends, however it ends."""

import fcntl
import os
from pathlib import Path

from unlost.producer.journal.port import JournalTrouble


class JournalLock:
    """Held from its making until ``release``. ``JournalTrouble`` where another producer holds it."""

    def __init__(self, journal: Path) -> None:
        journal = journal.resolve()  # one lock, by whatever link the journal is named
        path = journal.with_name(f"{journal.name}.lock")
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            # Not on the journal itself: closing any descriptor of that would drop SQLite's own locks.
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _named(self._file)
            os.close(self._file)
            raise JournalTrouble(
                f"the journal {journal} is in use by another producer{holder}; "
                "stop that one, or give this one a journal of its own (--journal)"
            ) from None
        os.truncate(self._file, 0)
        os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let another producer have the journal. The file stays: who removes it could remove another's lock."""
        os.close(self._file)


def _named(file: int) -> str:
    digits = os.pread(file, 20, 0).strip()
    return f" (process {int(digits)})" if digits.isdigit() else ""
