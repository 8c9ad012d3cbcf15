"""Reports to our own producer what the group has settled, so that its journal keeps everything else.

The reported cursor is the one in PostgreSQL, never one that is settled in memory only: what a restart reads again must
still be there. The report names the group and its database, since groups of one name on two databases must each read
everything. Only a source that proved in its handshake to be our producer gets reports.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Protocol

import msgspec

from unlost.listener.core.errors import UnlostError
from unlost.listener.ports.cursors import GroupCursors
from unlost.listener.ports.source import SourceEnded

EVERY = 1.0
AGAIN_AFTER = 10
"""An unchanged cursor is reported this many times less often."""


class Sends(Protocol):
    """The part of a connection that is used here."""

    async def send(self, message: str) -> None:
        """Send a text message; ``SourceEnded`` at the end."""
        ...


class CursorReporter:
    """Reports on all connections of a reader, one after another."""

    def __init__(self, cursors: GroupCursors, *, source: str, group: str, saved: Callable[[], str | None]) -> None:
        """``saved``: the group's cursor in PostgreSQL's last answer; None if it must be read."""
        self._cursors = cursors
        self._source = source
        self._group = group
        self._saved = saved

    async def run(self, connection: Sends) -> None:
        """Report until cancelled, or until the connection ends."""
        database = reported = None
        rounds = AGAIN_AFTER
        while True:
            rounds += 1
            with contextlib.suppress(UnlostError):  # without PostgreSQL there is nothing new to report
                database = database or await self._cursors.database()
                settled = self._saved() or await self._cursors.read(self._source, self._group)
                if settled != reported or rounds >= AGAIN_AFTER:
                    try:
                        await connection.send(self._report(database, settled))
                    except SourceEnded:
                        return
                    reported, rounds = settled, 0
            await asyncio.sleep(EVERY)

    def _report(self, database: str, settled: str | None) -> str:
        return msgspec.json.encode({"group": self._group, "database": database, "settled": settled}).decode()
