"""Stops reading while a key is blocked, where the group's policy says so (``ORDER_AFTER_LETTER=stop``).

Every listener looks in PostgreSQL each second, and at once after a letter of its own. Events in memory go on: other
keys are processed, and later events of the blocked key are parked in their order.
"""

import asyncio
import contextlib

from unlost.listener.core.errors import Permanent, Transient
from unlost.listener.core.facts import Facts, KeysBlocked
from unlost.listener.ports.rows import Rows

LOOK_EVERY_SECONDS = 1.0


class KeyWatch:
    """Knows whether reading must stop. ``stops``: whether a blocked key stops it at all."""

    def __init__(self, *, store: Rows, stops: bool, facts: Facts) -> None:
        self._store = store
        self._stops = stops
        self._facts = facts
        self._letters = 0
        self._blocked = False

    @property
    def why(self) -> str:
        """Why nothing may be read; empty if it may."""
        if not self._blocked:
            return ""
        return "a dead letter blocks a key, and ORDER_AFTER_LETTER=stop: see dlq keys"

    def letter_registered(self) -> None:
        """Record that a letter of this listener blocks its key from now on."""
        if self._stops:
            self._letters += 1
            self._set(blocked=True)

    async def run(self) -> None:
        """Look until cancelled."""
        while self._stops:
            with contextlib.suppress(Transient, Permanent):  # reading waits for PostgreSQL anyway
                await self.look()
            await asyncio.sleep(LOOK_EVERY_SECONDS)

    async def look(self) -> None:
        """Ask PostgreSQL. The answer does not count if a letter was registered meanwhile."""
        before = self._letters
        blocked = await self._store.any_blocked()
        if before == self._letters:
            self._set(blocked=blocked)

    def _set(self, *, blocked: bool) -> None:
        if blocked != self._blocked:
            self._blocked = blocked
            self._facts(KeysBlocked(blocked))
