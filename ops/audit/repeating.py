"""Audits again and again, until the process is stopped."""

import asyncio
from collections.abc import Awaitable, Callable

from unlost.ops.kit.command import UsageProblem, say

AFTER = 60.0
"""Seconds before the first audit, and after one that failed: listeners that start meanwhile have begun to read then.

Otherwise the events of a group whose listeners start beside the audit would count as unread.
"""


class RepeatedAudit:
    """Runs ``audit`` each ``every`` seconds. ``run`` returns after ``stop``; an audit that runs then is given up."""

    def __init__(self, audit: Callable[[], Awaitable[int]], every: float, *, after: float = AFTER) -> None:
        self._audit = audit
        self._every = every
        self._after = min(every, after)
        self._stop = asyncio.Event()

    def stop(self) -> None:
        """Begin to stop."""
        self._stop.set()

    async def run(self) -> None:
        """Audit until ``stop`` is called."""
        async with asyncio.TaskGroup() as tasks:
            work = tasks.create_task(self._repeat(), name="audits")
            await self._stop.wait()
            work.cancel()

    async def _repeat(self) -> None:
        say(f"audits every {self._every:,.0f} s, the first in {self._after:,.0f} s", err=True)
        pause = self._after
        while True:
            await asyncio.sleep(pause)
            try:
                await self._audit()
                pause = self._every
            except UsageProblem as problem:
                say(f"error: {problem}; the next audit is in {self._after:,.0f} s", err=True)
                pause = self._after
