"""The contact with one source that does not send again what is missed, from one connection to the next.

When a connection is open again after another one, the time between the last sign of life and now is a gap. Times are
seconds of the event loop's clock.
"""

import asyncio
import time
from collections.abc import Callable

from unlost.listener.source.feed.gaps import Declare


class Contact:
    """When a source last showed a sign of life. ``ContactKeeper`` keeps it over a restart."""

    def __init__(self, source: str, declare: Declare, *, now: Callable[[], float] = time.time) -> None:
        self._source = source
        self.declare = declare
        self._now = now
        self._heard: Callable[[], float] | None = None
        self._lost_at: float | None = None
        self.opened_at: float | None = None
        """When the source was open for the first time since this process began."""

    @property
    def connected(self) -> bool:
        """Whether the source is open."""
        return self._heard is not None

    @property
    def heard_at(self) -> float | None:
        """When it showed its last sign of life; None if it never did."""
        return self._lost_at if self._heard is None else self._heard()

    def open(self, heard: Callable[[], float], *, missed: bool) -> None:
        """Note that the source is open. ``heard`` returns its last sign of life.

        ``missed``: what it sent since the last connection does not come again, and nothing shows how much that is.
        """
        if self.opened_at is None:
            self.opened_at = asyncio.get_running_loop().time()
        if missed and self._lost_at is not None:
            self.disconnected(self._lost_at)
        self._heard, self._lost_at = heard, None

    def close(self, heard_at: float) -> None:
        """Note that the source is not open any more, and when it showed its last sign of life."""
        self._heard = None
        if heard_at > float("-inf"):
            self._lost_at = heard_at

    def disconnected(self, since: float) -> None:
        """Declare that nothing was received from then until now."""
        self.disconnected_for(asyncio.get_running_loop().time() - since)

    def disconnected_for(self, seconds: float, once: str | None = None) -> None:
        """Declare that nothing was received for so long. ``once``: see ``Declare``."""
        self.declare(self._source, "disconnected", began_at=self._now() - seconds, once=once)
