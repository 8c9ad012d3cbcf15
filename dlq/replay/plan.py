"""The limits and the report of a replay, with its exit codes. Pure."""

from collections import Counter
from dataclasses import dataclass, field

RESOLVED, SOME_FAILED, USAGE, LOCKED, STOPPED, INTERRUPTED = 0, 1, 2, 3, 4, 130


@dataclass(frozen=True, slots=True)
class ReplayLimits:
    """The limits of a replay. 0 means no limit; for ``concurrency``, as many as keep it busy."""

    rate: float = 0.0
    limit: int = 0
    canary: int = 0
    max_failures: int = 0
    max_replays: int = 3
    concurrency: int = 0
    max_event_bytes: int = 1024 * 1024


@dataclass(slots=True)
class ReplayReport:
    """How a replay went. ``stopped`` names the threshold that ended it, ``error`` the error that did.

    ``elsewhere``: letters that another replay was running. ``unreadable``: letters that nobody can run. ``behind``:
    letters that were not run, since an earlier letter of their key waits.
    """

    stored: int = 0
    already_stored: int = 0
    failed: int = 0
    quarantined: int = 0
    elsewhere: int = 0
    unreadable: int = 0
    behind: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    stopped: str = ""
    error: str = ""
    interrupted: bool = False

    @property
    def resolved(self) -> int:
        """Letters whose event is a row now."""
        return self.stored + self.already_stored

    @property
    def done(self) -> int:
        """Letters that were run."""
        return self.resolved + self.failed

    def exit_code(self) -> int:
        """The exit code of the command."""
        if self.interrupted:
            return INTERRUPTED
        if self.stopped:
            return STOPPED
        if self.failed or self.error or self.unreadable or self.behind:
            return SOME_FAILED
        return LOCKED if self.elsewhere else RESOLVED
