"""A file that a server reads again when it has changed, and keeps what it had while it cannot be used."""

from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")
Stamp = tuple[int, int, int]
"""Time of change, size and inode: they differ when the file has changed."""


class Unusable(Exception):
    """The file cannot be used, for the reason that the message gives."""


class WatchedFile(Generic[T]):
    """A file, and what it says."""

    def __init__(self, path: Path, read: Callable[[Path], T], empty: T) -> None:
        """``read`` raises ``Unusable`` with a sentence that names the file."""
        self.path = path
        self.content = empty
        self.error = ""
        """Why the file cannot be used now."""
        self._read = read
        self._stamp: Stamp | None = None

    def load(self) -> None:
        """Read it for the first time. Raises ``Unusable``."""
        self._stamp = self._stamp_now()
        self.content = self._read(self.path)

    def refresh(self) -> bool:
        """Read it again if it has changed, or could not be used; return whether it may say something else now.

        A file that changes while it is read is read again the next time: half of it may look like a whole one.
        """
        stamp = self._stamp_now()
        if stamp == self._stamp and not self.error:
            return False
        before = self.content
        try:
            content = self._read(self.path)
        except Unusable as error:
            self._stamp, self.error = stamp, str(error)
            return False
        if self._stamp_now() != stamp:
            return False
        self._stamp, self.content, self.error = stamp, content, ""
        return content != before

    def _stamp_now(self) -> Stamp | None:
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino
