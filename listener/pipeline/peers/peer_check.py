"""Looking: what peers have settled ends here, unread. What they have not is read, and asked for."""

from collections.abc import Sequence
from itertools import compress
from typing import Protocol

from unlost.listener.claims.manager import Desk
from unlost.listener.core.clocks import Clocks
from unlost.listener.core.errors import Transient
from unlost.listener.core.facts import BatchDone, Facts
from unlost.listener.pipeline.peers.affinity import Turns
from unlost.listener.pipeline.peers.segments import Part, Stretch

AT_ONCE = 32
"""So many parts are looked at together: what of them must be read keeps nobody else waiting for long."""


class Unread(Protocol):
    """Where the parts of the stream are that have not been read yet."""

    def end_unread(self, parts: Sequence[Part]) -> None:
        """These are settled."""
        ...

    def read(self, parts: Sequence[Part]) -> None:
        """Read these now."""
        ...


class Looking:
    """Takes peers' parts from the turns, once it is time."""

    def __init__(self, *, turns: Turns, desk: Desk, intake: Unread, clocks: Clocks, facts: Facts) -> None:
        self._turns = turns
        self._desk = desk
        self._intake = intake
        self._clocks = clocks
        self._facts = facts

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            parts = await self._turns.due(AT_ONCE)
            started = self._clocks.monotonic()
            settled = await self._settled([part.stretch for part in parts])
            self._intake.end_unread([part for part in parts if part.stretch in settled])
            self._intake.read(self._turns.wait_again([part for part in parts if part.stretch not in settled]))
            count = sum([len(part.frames) for part in parts])
            self._facts(BatchDone("look", count, self._clocks.monotonic() - started))

    async def _settled(self, stretches: Sequence[Stretch]) -> set[Stretch]:
        ended = {stretch: stretch.name for stretch in stretches if stretch.name}
        if not ended:
            return set()
        try:
            vouched = await self._desk.look(list(ended.values()))
        except Transient:
            return set()
        settled = set(compress(ended, vouched))
        self._turns.saw(len(settled), len(ended))
        return settled
