"""Stops reading while a key is blocked by a letter whose policy says so: that of its route, or the group's.

Every listener looks in PostgreSQL before it reads and then each second, and stops at once after a letter of its own.
Events in memory go on: other keys are processed, and later events of the blocked key are parked in their order.
"""

import asyncio
import contextlib
from collections.abc import Sequence

from unlost.listener.core.errors import Permanent, Transient
from unlost.listener.core.facts import Facts, KeysBlocked
from unlost.listener.ports.dead_letters import Burial
from unlost.listener.ports.rows import Rows

LOOK_EVERY_SECONDS = 1.0


class KeyWatch:
    """Knows whether reading must stop. ``stops``: whether any letter stops it.

    ``unsaid``: whether letters stop it that were written before letters said so.
    """

    def __init__(self, *, store: Rows, stops: bool, facts: Facts, unsaid: bool = False) -> None:
        self._store = store
        self._stops = stops
        self._unsaid = unsaid
        self._facts = facts
        self._letters = 0
        self._blocked = False

    @property
    def why(self) -> str:
        """Why nothing may be read; empty if it may."""
        if not self._blocked:
            return ""
        return "a dead letter blocks a key, and its policy is to stop reading: see dlq keys"

    def registered(self, burials: Sequence[Burial]) -> None:
        """Record that these letters of this listener block their keys from now on."""
        stops = any(one.order_key is not None and _stops(one, unsaid=self._unsaid) for one in burials)
        if self._stops and stops:
            self._letters += 1
            self._set(blocked=True)

    async def run(self) -> None:
        """Look until cancelled."""
        while self._stops:
            with contextlib.suppress(Transient, Permanent):  # reading waits for PostgreSQL anyway
                await self.look()
            await asyncio.sleep(LOOK_EVERY_SECONDS)

    async def look(self) -> None:
        """Ask PostgreSQL. The answer does not count if a letter was registered meanwhile.

        Called once before anything is read, so that a new listener reads nothing behind a letter that stops reading.
        """
        if not self._stops:
            return
        before = self._letters
        blocked = await self._store.any_stops(unsaid=self._unsaid)
        if before == self._letters:
            self._set(blocked=blocked)

    def _set(self, *, blocked: bool) -> None:
        if blocked != self._blocked:
            self._blocked = blocked
            self._facts(KeysBlocked(blocked))


def _stops(letter: Burial, *, unsaid: bool) -> bool:
    return unsaid if letter.stops is None else letter.stops
