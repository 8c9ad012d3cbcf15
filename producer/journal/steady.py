"""A clock for the age of entries. A jump of the system clock moves it only a little. Pure.

It never goes back, and runs at most twice as fast as the machine's monotonic clock. If the system clock is days ahead
for half a minute, this clock gains at most half a minute. After a producer was stopped for a day, it needs another day
to catch up.
"""

FASTEST = 2.0


class SteadyClock:
    """Computes the time from the readings of both clocks."""

    def __init__(self, last: float | None, wall: float, monotonic: float) -> None:
        """``last``: the time that the journal last recorded, if any."""
        self._now = wall if last is None else last
        self._monotonic = monotonic

    def now(self, wall: float, monotonic: float) -> float:
        """Seconds since 1970, limited by both clocks."""
        passed, self._monotonic = monotonic - self._monotonic, monotonic
        self._now = max(self._now, min(wall, self._now + FASTEST * passed))
        return self._now
