"""Peer affinity: which of several listeners that receive the same events claims which first.

Each listener claims its own share at once. Its peers' shares stay unread at first. A moment later one lookup shows
whether a whole segment of a peer is settled; nearly all are, and end here. Only speed depends on this. If a peer does
not settle its share (it died, is slow, or receives other events), this listener stops waiting for it until it settles
some again. An idle listener claims from such shares.
"""

import asyncio
from collections import deque
from collections.abc import Sequence

from unlost.listener.core.batch_queue import BatchQueue
from unlost.listener.core.in_flight import InFlight
from unlost.listener.pipeline.peers.segments import SegmentPiece

GATHER = 0.02
WORTH_WAITING = 0.2
"""Waiting continues while peers claim at least this fraction of their share."""


LATELY = 3
"""A peer is at work if it settled something within this many waits."""


class PeerAffinity:
    """Stands before the queue of claiming."""

    def __init__(self, queue: BatchQueue[InFlight], *, peer_wait: float) -> None:
        """``peer_wait``: seconds to wait for a peer, and once more as long while its segment is not complete."""
        self._peer_wait = peer_wait
        self._queue = queue
        self._later: deque[tuple[float, SegmentPiece]] = deque()
        self._due: BatchQueue[SegmentPiece] = BatchQueue()
        self._calm = asyncio.Event()
        self._calm.set()
        self._unread: dict[SegmentPiece, None] = {}
        self.waits = True
        """Whether this listener waits for peers."""
        self._settled_at = float("-inf")
        """When a segment of a peer was last found settled."""

    def put_all(self, flights: Sequence[InFlight]) -> None:
        """Queue these to be claimed."""
        self._queue.put_all(flights)
        self._calm.clear()

    def put_first(self, flights: Sequence[InFlight]) -> None:
        """Queue these to be claimed before all others."""
        self._queue.put_first(flights)
        self._calm.clear()

    def put_behind(self, flights: Sequence[InFlight]) -> None:
        """Queue peers' events to be claimed when nothing else waits."""
        self._queue.put_behind(flights)

    @property
    def unread(self) -> list[SegmentPiece]:
        """The parts that wait for a peer, or are being checked, in the order of receipt."""
        return list(self._unread)

    def ended(self, parts: Sequence[SegmentPiece]) -> None:
        """Remove parts that are read now, or settled."""
        for part in parts:
            self._unread.pop(part, None)

    def put_later(self, part: SegmentPiece) -> None:
        """Wait for a peer to settle this part."""
        if part.frames:
            self._unread[part] = None
        loop = asyncio.get_running_loop()
        if not self._later:
            loop.call_later(self._peer_wait, self._pass_on)
        self._later.append((loop.time(), part))

    def taken(self) -> None:
        """Record that claiming has taken from its queue."""
        if self._queue.only_behind:
            self._calm.set()

    async def due(self, limit: int) -> list[SegmentPiece]:
        """Take parts whose peers had enough time, up to ``limit``, at least one, once no own event waits."""
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

    def _ripe_at(self, since: float, part: SegmentPiece) -> float:
        return since + self._peer_wait * (1 if part.segment.name else 2)

    def saw(self, settled: int, count: int) -> None:
        """Record how many of the peers' segments that were looked up are settled."""
        if settled >= count * WORTH_WAITING:
            self._settled_at = asyncio.get_running_loop().time()
            self.waits = True

    @property
    def _peers_settle(self) -> bool:
        return asyncio.get_running_loop().time() - self._settled_at < self._peer_wait * LATELY

    def wait_again(self, parts: Sequence[SegmentPiece]) -> list[SegmentPiece]:
        """Wait once more, as long, if peers settle some; return the parts for which we wait no longer."""
        again = [part for part in parts if self._peers_settle and part.segment.name and not part.waited]
        for part in again:
            part.waited = True
            self.put_later(part)
        return [part for part in parts if part not in again]

    def record_won(self, won: Sequence[bool]) -> None:
        """Record which peer events we won after waiting for their owner: nobody had claimed those."""
        if won and not self._peers_settle:
            self.waits = won.count(False) >= len(won) * WORTH_WAITING
