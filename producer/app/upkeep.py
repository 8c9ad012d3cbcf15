"""Maintenance of the journal: retention, what groups have not read yet, and whether there is room.

Retention never drops what a known group has not read. If such events fill the journal, publishing is refused until the
group continues to read or is forgotten. Health warns before that.
"""

import asyncio
import time
from collections.abc import Callable

import msgspec

from unlost.ops.kit.telemetry.counted import counted
from unlost.producer.journal.port import Journal, JournalStats
from unlost.producer.journal.steady import SteadyClock
from unlost.producer.stream.groups import CursorReport, Groups

CHUNK = 5_000
NEARLY = 0.8
"""Health warns when unread events of a group take more than this share of the allowed size."""


class JournalCheck(msgspec.Struct, frozen=True):
    """The result of a check. ``full``: why nothing is accepted now. ``nearly``: a warning that this may come."""

    stats: JournalStats
    full: str = ""
    nearly: str = ""


class JournalUpkeep:
    """Maintains the journal. ``look`` runs periodically; ``report`` is called from the event loop."""

    def __init__(
        self,
        journal: Journal,
        *,
        retention: float,
        max_bytes: int,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._journal = journal
        self._retention = retention
        self._max_bytes = max_bytes
        self._wall = wall
        self._monotonic = monotonic
        self._steady = SteadyClock(journal.probed_at(), wall(), monotonic())
        self.groups = Groups(journal.timelines, journal.remember(()))
        self._bounds = journal.bounds()

    def report(self, report: CursorReport, newest: int) -> None:
        """Record a listener's report. Raises ``TooManyGroups``."""
        self.groups.report(report, bounds=(self._bounds[0], newest), at=self._wall())

    async def look(self) -> JournalCheck:
        """Check that the journal can be written, drop what may be dropped, and find out how full it is.

        Raises ``JournalError`` if the journal cannot be written.
        """
        now = self._steady.now(self._wall(), self._monotonic())
        await asyncio.to_thread(self._journal.probe, now)
        self.groups.learn(await asyncio.to_thread(self._journal.remember, self.groups.reported()))
        await self._retire(now - self._retention)
        self._bounds = await asyncio.to_thread(self._journal.bounds)
        stats = await asyncio.to_thread(self._journal.stats)
        return JournalCheck(stats, *await self._room(stats))

    async def _retire(self, older_than: float) -> None:
        retire = self._journal.retire
        while True:
            keep = self.groups.keep
            changed = await asyncio.to_thread(
                lambda: retire(older_than=older_than, max_bytes=self._max_bytes, chunk=CHUNK, keep=keep)  # noqa: B023
            )
            if changed < CHUNK:
                return

    async def _room(self, stats: JournalStats) -> tuple[str, str]:
        slowest = self.groups.slowest
        if slowest is None or stats.size <= NEARLY * self._max_bytes:
            return "", ""
        entries, size = await asyncio.to_thread(self._journal.unread, slowest.settled)
        since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(slowest.at))
        what = (
            f"group {slowest.name} has not read {counted(entries, 'event')}, {size:,} bytes "
            f"(it last reported at {since}); "
            f"start its listeners, or forget it: unlost journal forget {slowest.name}"
        )
        if stats.size > self._max_bytes:
            return f"journal full: {what}", ""
        return "", f"journal: nearly full: {what}" if size > NEARLY * self._max_bytes else ""
