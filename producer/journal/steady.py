"""A clock by which entries age: no jump of the system's clock moves it far. Pure.

It never goes back, and runs at most twice as fast as the machine's monotonic clock. So a clock that was days ahead for
half a minute costs a minute, and a producer that was stopped for a day has caught up after another day.
"""

FASTEST = 2.0


class SteadyClock:
    """To be asked for the time with what both clocks show."""

    def __init__(self, last: float | None, wall: float, monotonic: float) -> None:
        """``last``: what it showed when the journal was last looked after, if ever."""
        self._now = wall if last is None else last
        self._monotonic = monotonic

    def now(self, wall: float, monotonic: float) -> float:
        """Seconds since 1970, as far as both clocks can be believed."""
        passed, self._monotonic = monotonic - self._monotonic, monotonic
        self._now = max(self._now, min(wall, self._now + FASTEST * passed))
        return self._now
