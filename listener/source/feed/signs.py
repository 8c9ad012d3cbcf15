"""A connection's last sign of life, and how long it is silent. Pure; times are seconds of the event loop's clock."""

CATCH_UP_SECONDS = 5.0
"""After a pause, the operating system's buffers have been read by then."""


class Signs:
    """The signs of life of one connection. It was just opened."""

    def __init__(self, now: float) -> None:
        self.last_at = self._read_at = now
        self._paused = False
        self._paused_at = self._resumed_at = float("-inf")

    def pause(self, now: float) -> None:
        """Note that nothing is read from now on."""
        self._paused, self._paused_at = True, now

    def resume(self, now: float) -> None:
        """Note that reading continues."""
        self._paused = False
        self._resumed_at = self._read_at = now

    def heard(self, now: float) -> None:
        """Note messages that were read just now. After a pause, they may be as old as the pause."""
        self._read_at = now
        waited = now < self._resumed_at + CATCH_UP_SECONDS
        self.last_at = max(self.last_at, self._paused_at if waited else now)

    def silent_for(self, now: float) -> float:
        """Return for how long it was read, and nothing came; 0 while nothing is read."""
        return 0.0 if self._paused else now - self._read_at
