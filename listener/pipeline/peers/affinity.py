"""Turns: of several listeners that hear the same events, which asks first for which.

Each asks at once for its own share. Its peers' stays unread, and a moment later one name for many events is
looked for: by then most are settled, and end. Nothing but speed depends on it. A peer that does not take its share
(it died, it is slow, it hears other events) is waited for no more until it does, and who has nothing else to do
takes from it.
"""

import asyncio
from collections import deque
from collections.abc import Sequence

from unlost.listener.core.batch_queue import BatchQueue
from unlost.listener.core.in_flight import InFlight
from unlost.listener.pipeline.peers.segments import Part

GATHER = 0.02
WORTH_WAITING = 0.2
"""Waiting goes on while peers take at least this part of their share."""


LATELY = 3
"""Who settled something within so many waits is at work."""


class PeerAffinity:
    """Stands in front of the claiming's inbox."""

    def __init__(self, queue: BatchQueue[InFlight], *, peer_wait: float) -> None:
        """Make one, that waits for peers so many seconds, and as long again while a stretch goes on."""
        self._peer_wait = peer_wait
        self._queue = queue
        self._later: deque[tuple[float, Part]] = deque()
        self._due: BatchQueue[Part] = BatchQueue()
        self._calm = asyncio.Event()
        self._calm.set()
        self._unread: dict[Part, None] = {}
        self.waits = True
        """Whether peers are waited for."""
        self._settled_at = float("-inf")
        """When peers were last seen to have settled theirs."""

    def put_all(self, flights: Sequence[InFlight]) -> None:
        """Have these claimed."""
        self._queue.put_all(flights)
        self._calm.clear()

    def put_behind(self, flights: Sequence[InFlight]) -> None:
        """Have these claimed when nothing else waits: they are peers'."""
        self._queue.put_behind(flights)

    @property
    def unread(self) -> list[Part]:
        """What waits for a peer, or is looked at just now, in the order of receipt."""
        return list(self._unread)

    def ended(self, parts: Sequence[Part]) -> None:
        """These are read now, or settled."""
        for part in parts:
            self._unread.pop(part, None)

    def put_later(self, part: Part) -> None:
        """Wait for a peer to settle these."""
        if part.frames:
            self._unread[part] = None
        loop = asyncio.get_running_loop()
        if not self._later:
            loop.call_later(self._peer_wait, self._pass_on)
        self._later.append((loop.time(), part))

    def taken(self) -> None:
        """Claiming has taken from the inbox."""
        if self._queue.calm:
            self._calm.set()

    async def due(self, limit: int) -> list[Part]:
        """What peers had their chance for, up to ``limit``, at least one; once nothing of one's own waits."""
        parts = await self._due.take(limit)
        await self._calm.wait()
        return parts

    def _pass_on(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        while self._later and self._ripe_at(*self._later[0]) <= now + GATHER:
            self._due.put(self._later.popleft()[1])
        if self._later:
            loop.call_at(max(self._later[0][0] + self._peer_wait, now + self._peer_wait / 4), self._pass_on)

    def _ripe_at(self, since: float, part: Part) -> float:
        return since + self._peer_wait * (1 if part.segment.name else 2)

    def saw(self, settled: int, count: int) -> None:
        """So many of peers' stretches turned out to be settled."""
        if settled >= count * WORTH_WAITING:
            self._settled_at = asyncio.get_running_loop().time()
            self.waits = True

    @property
    def _peers_settle(self) -> bool:
        return asyncio.get_running_loop().time() - self._settled_at < self._peer_wait * LATELY

    def wait_again(self, parts: Sequence[Part]) -> list[Part]:
        """Peers that settle some are given as long again for the rest, once. Those that are waited for no more."""
        again = [part for part in parts if self._peers_settle and part.segment.name and not part.waited]
        for part in again:
            part.waited = True
            self.put_later(part)
        return [part for part in parts if part not in again]

    def heard(self, won: Sequence[bool]) -> None:
        """Of peers' events that were asked for after waiting in vain, which were won: nobody had taken them."""
        if won and not self._peers_settle:
            self.waits = won.count(False) >= len(won) * WORTH_WAITING
