"""Declares gaps: reports each at once, and records it in PostgreSQL as soon as that answers.

Until then only the log and the metrics show a gap. At most ``MOST_WAITING`` gaps wait to be recorded; beyond that they
stay in the log and the metrics alone.
"""

import asyncio
import contextlib
import hashlib
import secrets
from collections import deque
from collections.abc import Callable

from unlost.listener.core.errors import Permanent, Transient
from unlost.listener.core.facts import Facts, GapNotRecorded, SourceGap
from unlost.listener.core.gap import Gap, How
from unlost.listener.ports.gaps import Gaps
from unlost.ops.kit.telemetry.printable import printable

MOST_WAITING = 10_000
LARGEST = 2**63 - 1
LONGEST_POSITION = 500
"""How much is kept of a cursor, or of a number with its name. Backfills get no more either."""
AT_ONCE = 500
AGAIN_SECONDS = 0.5
LAST_SECONDS = 3.0
"""How long a stop waits until what was declared is recorded."""


class GapRecorder:
    """Declares the gaps of all sources of a listener. ``run`` must be running."""

    def __init__(self, gaps: Gaps, *, now: Callable[[], float], facts: Facts) -> None:
        self._gaps = gaps
        self._now = now
        self._facts = facts
        self._at_once = AT_ONCE
        self._waiting: deque[Gap] = deque(maxlen=MOST_WAITING)
        self._declared = asyncio.Event()
        self._all_recorded = asyncio.Event()
        self._all_recorded.set()

    def declare(
        self,
        source: str,
        how: How,
        *,
        after: str | None = None,
        resumed_at: str | None = None,
        missing: int | None = None,
        began_at: float | None = None,
        once: str | None = None,
    ) -> Gap:
        """Report a gap, and record it later: see ``Declare``. ``began_at`` is now, by default."""
        now = self._now()
        began = now if began_at is None else began_at
        gap_id = secrets.token_hex(12) if once is None else _known_to_all(source, how, once)
        if missing is not None and not 0 <= missing <= LARGEST:
            missing = None
        gap = Gap(gap_id, source, how, _clean(after), _clean(resumed_at), missing, began, now)
        self._facts(SourceGap(gap))
        self._waiting.append(gap)
        self._all_recorded.clear()
        self._declared.set()
        return gap

    async def run(self) -> None:
        """Record what is declared, until cancelled."""
        while True:
            await self._declared.wait()
            while self._waiting:
                await self._record()
            self._declared.clear()
            self._all_recorded.set()

    async def finish(self) -> None:
        """Wait a moment until all is recorded. ``run`` is still running."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_SECONDS):
                await self._all_recorded.wait()

    async def _record(self) -> None:
        some = [self._waiting[n] for n in range(min(self._at_once, len(self._waiting)))]
        try:
            await self._gaps.record(some)
        except Transient:
            await asyncio.sleep(AGAIN_SECONDS)
            return
        except Permanent as error:
            if len(some) > 1:  # one of them is refused: each by itself, so that it takes no other along
                self._at_once = 1
                return
            self._facts(GapNotRecorded(1, str(error)))
        if len(self._waiting) <= 1:
            self._at_once = AT_ONCE
        for gap in some:
            if self._waiting and self._waiting[0] is gap:
                self._waiting.popleft()


def _clean(position: str | None) -> str | None:
    """Return what a source sent as a position so that PostgreSQL and a terminal take it."""
    return None if position is None else printable(position[:LONGEST_POSITION])[:LONGEST_POSITION]


def _known_to_all(source: str, how: How, once: str) -> str:
    """Return the same id in all listeners: of what they all declare, one row is kept."""
    return hashlib.sha256("\0".join((source, how, once)).encode()).hexdigest()[:24]
