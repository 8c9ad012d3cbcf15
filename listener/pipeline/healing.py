"""Which letters listeners retry by themselves, and when. Pure: times and random numbers are arguments.

Letters that failed alike are one group. One of them is tried first, the oldest: the probe. If it fails, the group waits
longer than before; if it succeeds, the others follow. After ``HEAL_ATTEMPTS`` retries a human is needed.
"""

from dataclasses import dataclass
from typing import Literal

from unlost.listener.core.cause import UNCLAIMED, Reason
from unlost.listener.core.errors import ErrorClass

NEVER: frozenset[Reason] = frozenset(("invalid", "conflict", "crash_loop", "effect"))
"""Reasons that a retry cannot help, or might kill the next listener too. Effects had their retries already."""
JITTER = 0.25


@dataclass(frozen=True, slots=True)
class HealPolicy:
    """Defaults are those of the settings. ``first`` and ``longest`` are seconds, ``rate`` letters a second."""

    what: Literal["transient", "all", "off"] = "transient"
    first: float = 60.0
    longest: float = 14_400.0
    attempts: int = 12
    rate: float = 50.0

    def heal_after(self, reason: Reason, error_class: ErrorClass) -> float | None:
        """Return after how many seconds a new letter may be retried; None if only a human may."""
        if self.what == "off" or reason in NEVER or (self.what == "transient" and error_class != "transient"):
            return None
        return 0.0 if reason in UNCLAIMED or reason == "blocked" else self.first  # these have not been tried at all

    def delay(self, failures: int, fraction: float) -> float:
        """Return the seconds to wait after ``failures`` in a row; ``fraction`` is a random number in [0, 1)."""
        ceiling = self.first * 2.0 ** min(max(0, failures - 1), 32)
        return min(self.longest, ceiling) * (1.0 + JITTER * fraction)

    def seconds_for(self, letters: int) -> float:
        """Return the seconds that ``letters`` must take at least, of all groups together."""
        return letters / self.rate


def has_stopped(settled: int, lasting: int) -> bool:
    """Whether a group must wait: some letters failed for a reason that may last, and none was settled."""
    return lasting > 0 and not settled
