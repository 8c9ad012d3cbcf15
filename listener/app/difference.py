"""Checks regularly whether events differ for each connection: see ``listener/observe/differing.py``."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from unlost.listener.core.errors import Permanent, Transient
from unlost.listener.core.facts import Facts
from unlost.listener.observe.differing import Differing

LOOK_SECONDS = 30.0

StoredByPeers = Callable[[float], Awaitable[int]]
"""Counts the rows that other listeners stored within the last seconds, and whose ids are hashes."""


class DifferenceWatch:
    """Queries PostgreSQL only while hardly any received event was settled before."""

    def __init__(self, counts: Differing, stored_by_peers: StoredByPeers | None, facts: Facts) -> None:
        self._counts = counts
        self._stored_by_peers = stored_by_peers
        self._facts = facts

    async def run(self) -> None:
        """Check until cancelled. Without PostgreSQL, nothing is judged."""
        while self._stored_by_peers is not None:
            await asyncio.sleep(LOOK_SECONDS)
            of_peers = 0
            if self._counts.suspects:
                with contextlib.suppress(Transient, Permanent):
                    of_peers = await self._stored_by_peers(LOOK_SECONDS)
            self._counts.judge(of_peers, self._facts)
