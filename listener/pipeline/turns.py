"""Turns: of several listeners that hear the same events, which asks first for which.

Each asks at once for its own share. Of its peers' it keeps a glance, and looks a moment later what became of them: by
then most are settled, and end without having been read, let alone asked for. Nothing but speed depends on it. A peer
that does not take its share (it died, it is slow, it hears other events) is waited for no more until it does, and who
has nothing else to do takes from it.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from listener.claims.port import Sight
from listener.pipeline.inbox import Inbox
from listener.pipeline.passage import Glance, Passage

GATHER = 0.02
WORTH_WAITING = 0.2
"""Waiting goes on while peers take at least this part of their share."""


class Turns:
    """Stands in front of the claiming's inbox."""

    def __init__(
        self, inbox: Inbox[Passage], *, is_of_peers: Callable[[Sequence[str]], list[bool]], peer_wait: float
    ) -> None:
        """Make one, that waits for peers so many seconds; or never, with 0."""
        self._peer_wait = peer_wait
        self._inbox = inbox
        self._is_of_peers = is_of_peers
        self._later: deque[tuple[float, Sequence[Glance]]] = deque()
        self._due: Inbox[Glance] = Inbox()
        self._calm = asyncio.Event()
        self._calm.set()
        self._waits = True

    def wait(self, claim_ids: Sequence[str]) -> list[bool]:
        """Of each, whether a peer is waited for, so that a glance is enough."""
        if self._waits and self._peer_wait:
            return self._is_of_peers(claim_ids)
        return [False] * len(claim_ids)

    def put_all(self, passages: Sequence[Passage]) -> None:
        """Have these claimed; peers', where they are waited for no more, when nothing else waits."""
        own: Sequence[Passage] = passages
        if self._peer_wait and not self._waits:
            own = self._put_peers_behind(passages)
        if own:
            self._inbox.put_all(own)
            self._calm.clear()

    def _put_peers_behind(self, passages: Sequence[Passage]) -> list[Passage]:
        """What is nobody else's is returned. What is revived, nobody else asks for."""
        own: list[Passage] = []
        of_peers: list[Passage] = []
        for passage, of_peer in zip(passages, self._is_of_peers([p.ask.event_id for p in passages]), strict=True):
            passage.of_peer = of_peer and not passage.revive
            (of_peers if passage.of_peer else own).append(passage)
        self._inbox.put_behind(of_peers)
        return own

    def put_left(self, passages: Sequence[Passage]) -> None:
        """Have these claimed when nothing else waits: peers had their chance."""
        self._inbox.put_behind(passages)

    def put_later(self, glances: Sequence[Glance]) -> None:
        """Wait for peers to take these."""
        loop = asyncio.get_running_loop()
        if not self._later:
            loop.call_later(self._peer_wait, self._pass_on)
        self._later.append((loop.time() + self._peer_wait, glances))

    def taken(self) -> None:
        """Claiming has taken from the inbox."""
        if self._inbox.calm:
            self._calm.set()

    async def due(self, limit: int) -> list[Glance]:
        """What peers had their chance for, up to ``limit``, at least one; once nothing of one's own waits."""
        glances = await self._due.take(limit)
        await self._calm.wait()
        return glances

    def _pass_on(self) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + GATHER
        while self._later and self._later[0][0] <= until:
            self._due.put_all(self._later.popleft()[1])
        if self._later:
            loop.call_at(self._later[0][0], self._pass_on)

    def saw(self, sights: Sequence[Sight]) -> None:
        """What became of events that a peer was waited for."""
        self._waits = len(sights) - sights.count("free") >= len(sights) * WORTH_WAITING

    def heard(self, won: Sequence[bool]) -> None:
        """Of peers' events that were asked for without waiting, which were won."""
        if won:
            self._waits = won.count(False) >= len(won) * WORTH_WAITING
