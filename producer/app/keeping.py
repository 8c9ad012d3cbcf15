"""Looking after the journal: its retention, what groups are still to read, and whether there is room.

What a known group has not read is never dropped. Where it is too much, publishing is refused until the group has read,
or is forgotten; health says so beforehand.
"""

import asyncio
import time
from collections.abc import Callable

import msgspec

from unlost.producer.journal.port import Journal, JournalStats
from unlost.producer.journal.steady import SteadyClock
from unlost.producer.stream.groups import Groups, Report

CHUNK = 5_000
NEARLY = 0.8
"""Above this part of the room, taken by what a group has not read, health warns."""


class Looked(msgspec.Struct, frozen=True):
    """What was found at a look. ``full``: why nothing may be accepted; ``nearly``: why that may come."""

    stats: JournalStats
    full: str = ""
    nearly: str = ""


class Keeping:
    """See the module's head. ``look`` is called now and then, ``report`` and ``is_over`` from the event loop."""

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
        self._steady = SteadyClock(journal.proven_at(), wall(), monotonic())
        self.groups = Groups(journal.timelines, journal.remember(()))
        self._bounds = journal.bounds()

    def report(self, report: Report, newest: int) -> None:
        """A listener's. ``TooManyGroups``"""
        self.groups.report(report, bounds=(self._bounds[0], newest), at=self._wall())

    async def look(self) -> Looked:
        """Prove that the journal can be written, drop what may be dropped, and say how full it is.

        ``JournalTrouble`` where it cannot be written.
        """
        now = self._steady.now(self._wall(), self._monotonic())
        await asyncio.to_thread(self._journal.prove, now)
        self.groups.learn(await asyncio.to_thread(self._journal.remember, self.groups.reported()))
        await self._retire(now - self._retention)
        self._bounds = await asyncio.to_thread(self._journal.bounds)
        stats = await asyncio.to_thread(self._journal.stats)
        return Looked(stats, *await self._room(stats))

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
            f"group {slowest.name} has not read {entries:,} events, {size:,} bytes (it last reported at {since}); "
            f"start its listeners, or forget it: unlost journal forget {slowest.name}"
        )
        if stats.size > self._max_bytes:
            return f"journal full: {what}", ""
        return "", f"journal: nearly full: {what}" if size > NEARLY * self._max_bytes else ""
