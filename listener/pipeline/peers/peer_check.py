"""The peer check: parts that peers have settled end here, unread. All others are read and claimed."""

from collections.abc import Sequence
from itertools import compress
from typing import Protocol

from unlost.listener.claims.manager import ClaimManager
from unlost.listener.core.clocks import Clocks
from unlost.listener.core.errors import Transient
from unlost.listener.core.facts import BatchDone, Facts
from unlost.listener.pipeline.peers.affinity import PeerAffinity
from unlost.listener.pipeline.peers.segments import Segment, SegmentPiece

AT_ONCE = 32
"""How many parts are checked together. Reading those that are not settled then delays others only briefly."""


class Unread(Protocol):
    """Receives the parts of the stream that have not been read yet."""

    def end_unread(self, parts: Sequence[SegmentPiece]) -> None:
        """End these: they are settled."""
        ...

    def read(self, parts: Sequence[SegmentPiece]) -> None:
        """Read these now."""
        ...


class PeerCheck:
    """Takes peers' parts from ``PeerAffinity`` after their wait."""

    def __init__(
        self, *, affinity: PeerAffinity, manager: ClaimManager, intake: Unread, clocks: Clocks, facts: Facts
    ) -> None:
        self._affinity = affinity
        self._manager = manager
        self._intake = intake
        self._clocks = clocks
        self._facts = facts

    async def run(self) -> None:
        """Check until cancelled."""
        while True:
            parts = await self._affinity.due(AT_ONCE)
            started = self._clocks.monotonic()
            settled = await self._settled([part.segment for part in parts])
            self._intake.end_unread([part for part in parts if part.segment in settled])
            self._intake.read(self._affinity.wait_again([part for part in parts if part.segment not in settled]))
            count = sum([len(part.frames) for part in parts])
            self._facts(BatchDone("peer_check", count, self._clocks.monotonic() - started))

    async def _settled(self, segments: Sequence[Segment]) -> set[Segment]:
        ended = {segment: segment.name for segment in segments if segment.name}
        if not ended:
            return set()
        try:
            settled_names = await self._manager.look(list(ended.values()))
        except Transient:
            return set()
        settled = set(compress(ended, settled_names))
        self._affinity.saw(len(settled), len(ended))
        return settled
