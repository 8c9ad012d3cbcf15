"""Obeys the pauses of the group: this listener's own, and those of its handler's routes.

A paused listener reads nothing more, and finishes what it holds; its peers go on. It goes on reading a source that does
not resume, because that source would not send again what is missed. The events of a paused route wait in memory. While
PostgreSQL does not answer, the pauses that were read last hold.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence

from unlost.listener.core.errors import Permanent, Transient
from unlost.listener.core.facts import Facts, PauseBegan, PauseEnded
from unlost.listener.core.pause import Pause
from unlost.listener.ports.pauses import Pauses

LOOK_EVERY_SECONDS = 1.0


class Pausing:
    """Looks each second. ``hold`` gets the routes that must not run, each with the reason."""

    def __init__(
        self,
        pauses: Pauses | None,
        *,
        instance: str,
        routes: Callable[[], Sequence[str]],
        hold: Callable[[Mapping[str, str]], None],
        facts: Facts,
    ) -> None:
        """``pauses``: None for a replay, which nothing pauses. ``routes``: those of the handler."""
        self._pauses = pauses
        self._instance = instance
        self._routes = routes
        self._hold = hold
        self._facts = facts
        self.held: tuple[Pause, ...] = ()
        """The pauses that concern this listener."""

    @property
    def listener(self) -> str:
        """Why this listener must not read; empty if it may."""
        return next((str(one) for one in self.held if one.kind == "listener"), "")

    @property
    def routes(self) -> dict[str, str]:
        """The routes that are paused, each with the reason."""
        return {one.name: str(one) for one in self.held if one.kind == "route"}

    async def run(self) -> None:
        """Look until cancelled."""
        while self._pauses is not None:
            await asyncio.sleep(LOOK_EVERY_SECONDS)
            with contextlib.suppress(Transient, Permanent):
                await self.look()

    async def look(self) -> None:
        """Read the pauses and obey them. Raises if PostgreSQL does not answer."""
        if self._pauses is None:
            return
        mine = {"listener": {self._instance}, "route": set(self._routes())}
        held = tuple(one for one in await self._pauses.now() if one.name in mine[one.kind])
        if held == self.held:
            return
        before, self.held = self.held, held
        self._hold(self.routes)
        for one in set(held) - set(before):
            self._facts(PauseBegan(one.kind, one.name, one.by, one.why))
        for kind, name in {(one.kind, one.name) for one in before} - {(one.kind, one.name) for one in held}:
            self._facts(PauseEnded(kind, name))
